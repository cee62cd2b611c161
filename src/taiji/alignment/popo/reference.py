"""Eq. 8 and 9 as the paper prints them: what the trainer is held against.

TRL computes both; nothing in training calls this file. The tests differentiate it in float64 and
compare the whole update of `PopoTrainer` with it.

Shape suffixes: K rewards, P prompts, G rollouts per prompt, N = P * G, T tokens.
"""

from dataclasses import dataclass

import torch


def mix(rewards_PGK: torch.Tensor, weights_K: torch.Tensor) -> torch.Tensor:
    """r~ = sum_k w_k r_k (Eq. 9)."""
    return rewards_PGK @ weights_K


def group_advantages(rewards_PG: torch.Tensor, *, epsilon: float = 1e-4) -> torch.Tensor:
    """(r - mean) / (std + eps) within each group of G rollouts (Eq. 8).

    The standard deviation is the sample's (G - 1), and eps is 1e-4, as in TRL.
    """
    centred_PG = rewards_PG - rewards_PG.mean(dim=1, keepdim=True)
    return centred_PG / (rewards_PG.std(dim=1, keepdim=True) + epsilon)


@dataclass(frozen=True)
class Logprobs:
    """Log-probabilities of the same N x T completion tokens under three policies."""

    policy: torch.Tensor
    old: torch.Tensor
    reference: torch.Tensor


def grpo_objective(
    logprobs: Logprobs,
    advantages_N: torch.Tensor,
    mask_NT: torch.Tensor,
    *,
    clip: float = 0.2,
    beta: float = 0.0,
) -> torch.Tensor:
    """Eq. 8, to be maximised: clipped ratio times advantage, minus beta times KL (k3).

    Tokens are averaged within a completion, then completions are averaged: TRL's loss type
    `grpo`, with the opposite sign.

    Args:
        logprobs: Under the policy, the policy that generated, and the SFT model.
        advantages_N: One advantage for each completion.
        mask_NT: 1 for completion tokens, 0 for padding.
        clip: Half width of the trust region of the ratio.
        beta: Weight of KL(policy || reference), estimated by exp(d) - d - 1 with
            d = log reference - log policy, which is never negative and has low variance.
    """
    ratio_NT = torch.exp(logprobs.policy - logprobs.old)
    clipped_NT = ratio_NT.clamp(1.0 - clip, 1.0 + clip)
    advantages_N1 = advantages_N[:, None]
    gain_NT = torch.minimum(ratio_NT * advantages_N1, clipped_NT * advantages_N1)
    gap_NT = logprobs.reference - logprobs.policy
    value_NT = (gain_NT - beta * (torch.exp(gap_NT) - gap_NT - 1.0)) * mask_NT
    return (value_NT.sum(dim=1) / mask_NT.sum(dim=1).clamp(min=1)).mean()
