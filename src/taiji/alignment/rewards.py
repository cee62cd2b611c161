"""The two rewards, their normalisers, and how they become an advantage (Eq. 3, 4, 8, 9).

Shape suffixes: K rewards, P prompts, G rollouts per prompt, T tokens, N answers, D dimensions.
Pure NumPy. The trainer computes Eq. 8 through TRL; `group_advantages` and `grpo_objective` say
what TRL must compute, and the tests hold the two against each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from taiji.errors import DataError, DivergenceError

Array = NDArray[np.float64]


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


def _rescale(scores_N: Array, low: float, high: float) -> Array:
    if not np.isfinite(scores_N).all():
        raise DivergenceError("preference reward: the ranking model returned NaN or infinity")
    return np.asarray(((scores_N - low) / (high - low)).clip(0.0, 1.0), dtype=np.float64)


def _checked_pool(scores_N: Array) -> Array:
    scores_N = np.asarray(scores_N, dtype=np.float64)
    if scores_N.size == 0 or not np.isfinite(scores_N).all():
        raise DataError("simulation pool: is empty, or a score is NaN or infinite: rerun simulate")
    return scores_N


def _checked_bounds(low: float, high: float) -> tuple[float, float]:
    if not (np.isfinite(low) and np.isfinite(high) and high > low):
        raise DataError(
            f"normaliser: bounds [{low}, {high}] span nothing: the ranking model gives (nearly) "
            "every pair of the pool the same score; train it longer or enlarge the pool"
        )
    return float(low), float(high)


@dataclass(frozen=True)
class MinMax:
    """Min-max over the simulation pool, frozen afterwards (Eq. 4, as in the paper)."""

    kind: ClassVar[Literal["minmax"]] = "minmax"
    low: float
    high: float

    @classmethod
    def fit(cls, pool_N: Array) -> "MinMax":
        """Bounds are the smallest and the largest score of the pool."""
        pool_N = _checked_pool(pool_N)
        return cls(*_checked_bounds(float(pool_N.min()), float(pool_N.max())))

    def apply(self, scores_N: Array) -> Array:
        """Scores on the pool's scale, clipped to [0, 1]."""
        return _rescale(scores_N, self.low, self.high)

    def to_json(self) -> dict[str, Any]:
        """What `normaliser_from_json` reads."""
        return {"kind": self.kind, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Quantile:
    """Bounds [0, 99.9 % quantile of the pool] (Eq. 4, ours).

    One outlier sets the paper's maximum, and with it how loud the preference reward is in the
    mix; the quantile does not move with it.
    """

    kind: ClassVar[Literal["quantile"]] = "quantile"
    quantile: ClassVar[float] = 0.999
    high: float

    @classmethod
    def fit(cls, pool_N: Array) -> "Quantile":
        """The upper bound is the 99.9 % quantile of the pool, the lower one is 0."""
        pool_N = _checked_pool(pool_N)
        _checked_bounds(float(pool_N.min()), float(pool_N.max()))
        return cls(_checked_bounds(0.0, float(np.quantile(pool_N, cls.quantile)))[1])

    def apply(self, scores_N: Array) -> Array:
        """Scores on the pool's scale, clipped to [0, 1]."""
        return _rescale(scores_N, 0.0, self.high)

    def to_json(self) -> dict[str, Any]:
        """What `normaliser_from_json` reads."""
        return {"kind": self.kind, "high": self.high}


Normaliser = MinMax | Quantile


def fit_normaliser(kind: Literal["minmax", "quantile"], pool_N: Array) -> Normaliser:
    """Fit the normaliser of Eq. 4 on the scores of the simulation pool.

    Raises:
        DataError: The pool is empty, constant, or holds NaN.
    """
    match kind:
        case "minmax":
            return MinMax.fit(pool_N)
        case "quantile":
            return Quantile.fit(pool_N)


def normaliser_from_json(value: Mapping[str, Any]) -> Normaliser:
    """The inverse of `to_json`.

    Raises:
        DataError: Kind or bounds are not those of a fitted normaliser.
    """
    try:
        match value["kind"]:
            case "minmax":
                return MinMax(*_checked_bounds(float(value["low"]), float(value["high"])))
            case "quantile":
                return Quantile(_checked_bounds(0.0, float(value["high"]))[1])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"normaliser: {dict(value)} cannot be read: rerun simulate") from error
    raise DataError(f"normaliser: unknown kind {value['kind']!r}: rerun simulate")


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
