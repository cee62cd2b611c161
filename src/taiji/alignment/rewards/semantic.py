"""The semantic reward, and how rewards become an advantage (Eq. 3, 8, 9).

The preference reward of Eq. 4 is in `preference.py`, its normalisers in `normalisers.py`.

Shape suffixes: K rewards, P prompts, G rollouts per prompt, T tokens, N answers, D dimensions.
Pure NumPy. The trainer computes Eq. 8 through TRL; `group_advantages` and `grpo_objective` say
what TRL must compute, and the tests hold the two against each other.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taiji.arrays import Array
from taiji.errors import DivergenceError


def semantic_reward(answers_ND: NDArray[Any], targets_ND: NDArray[Any]) -> Array:
    """r_s = cos(emb(answer), emb(true item text)), row by row (Eq. 3).

    A zero vector, which encoders return for empty text, earns 0.

    Raises:
        DivergenceError: An embedding is NaN or infinite.
    """
    answers_ND, targets_ND = answers_ND.astype(np.float64), targets_ND.astype(np.float64)
    scale_N = np.linalg.norm(answers_ND, axis=1) * np.linalg.norm(targets_ND, axis=1)
    dot_N = (answers_ND * targets_ND).sum(axis=1)
    if not (np.isfinite(scale_N).all() and np.isfinite(dot_N).all()):
        raise DivergenceError("semantic reward: an embedding is NaN or infinite")
    cosine_N = np.divide(dot_N, scale_N, out=np.zeros_like(dot_N), where=scale_N > 0)
    return np.asarray(cosine_N.clip(-1.0, 1.0), dtype=np.float64)


def mix(rewards_PGK: Array, weights_K: Array) -> Array:
    """r~ = sum_k w_k r_k (Eq. 9)."""
    return np.asarray(rewards_PGK @ weights_K, dtype=np.float64)


def group_advantages(rewards_PG: Array, *, epsilon: float = 1e-4) -> Array:
    """(r - mean) / (std + eps) within each group of G rollouts (Eq. 8).

    The standard deviation is the sample's (G - 1), and eps is 1e-4, as in TRL.
    """
    centred_PG = rewards_PG - rewards_PG.mean(axis=1, keepdims=True)
    sigma_P1 = rewards_PG.std(axis=1, ddof=1, keepdims=True)
    return np.asarray(centred_PG / (sigma_P1 + epsilon), dtype=np.float64)


@dataclass(frozen=True)
class Logprobs:
    """Log-probabilities of the same N x T completion tokens under three policies."""

    policy: Array
    old: Array
    reference: Array


def grpo_objective(
    logprobs: Logprobs,
    advantages_N: Array,
    mask_NT: NDArray[np.bool_],
    *,
    clip: float = 0.2,
    beta: float = 0.0,
) -> float:
    """Eq. 8, to be maximised: clipped ratio times advantage, minus beta times KL (k3).

    Tokens are averaged within a completion, then completions are averaged: TRL's loss type
    `grpo`, with the opposite sign.

    Args:
        logprobs: Under the policy, the policy that generated, and the SFT model.
        advantages_N: One advantage for each completion.
        mask_NT: True for completion tokens, False for padding.
        clip: Half width of the trust region of the ratio.
        beta: Weight of KL(policy || reference), estimated by exp(d) - d - 1 with
            d = log reference - log policy, which is never negative and has low variance.
    """
    ratio_NT = np.exp(logprobs.policy - logprobs.old)
    clipped_NT = ratio_NT.clip(1.0 - clip, 1.0 + clip)
    gain_NT = np.minimum(ratio_NT * advantages_N[:, None], clipped_NT * advantages_N[:, None])
    gap_NT = logprobs.reference - logprobs.policy
    value_NT = (gain_NT - beta * (np.exp(gap_NT) - gap_NT - 1.0)) * mask_NT
    return float((value_NT.sum(axis=1) / mask_NT.sum(axis=1).clip(min=1)).mean())
