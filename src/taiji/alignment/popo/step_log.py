"""What a step reports about its rewards and its weights, under TRL's way of naming metrics.

Shape suffixes: K rewards, P prompts, G rollouts per prompt.
"""

from collections.abc import MutableMapping, MutableSequence, Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from trl.trainer.utils import nanstd

from taiji.alignment.gradients.gram import cosines, norms
from taiji.alignment.popo.weights import Array, group_spread


def spread(
    names: Sequence[str], rewards_PGK: Array, applicable_PGK: NDArray[np.bool_]
) -> dict[str, float]:
    """Within-group deviation, share of groups in which a reward ranks nothing, and its share of
    the within-group variance of all rewards at equal weights."""
    mu_PK, sigma_PK = group_spread(rewards_PGK, applicable_PGK)
    values: dict[str, float] = {}
    for name, share in zip(names, variance_shares(sigma_PK), strict=True):
        if not np.isnan(share):
            values[f"rewards/{name}/variance_share"] = float(share)
    for k, name in enumerate(names):
        seen_P = ~np.isnan(mu_PK[:, k])
        if seen_P.any():
            values[f"rewards/{name}/group_std"] = float(sigma_PK[seen_P, k].mean())
            values[f"rewards/{name}/frac_zero_std"] = float((sigma_PK[seen_P, k] == 0).mean())
    return values


def variance_shares(sigma_PK: Array) -> Array:
    """Which reward decides who wins within a group, before weights: var_k / sum_j var_j.

    The reward with the largest share is the one that GRPO hears when all are mixed with equal
    weights; covariances between rewards are left out.

    Args:
        sigma_PK: Standard deviations within groups, NaN where a reward applies to no rollout.

    Returns:
        K shares that sum to 1; all NaN if no reward has any spread.
    """
    seen_K = (~np.isnan(sigma_PK)).sum(axis=0).clip(min=1)
    variance_K = np.nansum(sigma_PK**2, axis=0) / seen_K
    total = variance_K.sum()
    return variance_K / total if total > 0 else np.full(variance_K.shape, np.nan)


def gradients(names: Sequence[str], alignment_K: Array, gram_KK: Array) -> dict[str, float]:
    """I of Eq. 6 and |g_k| of each reward, the cosine of each pair; of the absent, nothing."""
    norm_K, cosine_KK = norms(gram_KK), cosines(gram_KK)
    present = np.flatnonzero(~np.isnan(alignment_K)).tolist()
    values: dict[str, float] = {}
    for k in present:
        values[f"popo/I_{names[k]}"] = float(alignment_K[k])
        values[f"popo/grad_norm_{names[k]}"] = float(norm_K[k])
    for i, j in combinations(present, 2):
        pair = "" if len(names) == 2 else f"_{names[i]}_{names[j]}"
        values[f"popo/cos{pair}"] = float(cosine_KK[i, j])
    return values


def correct_mix(
    logged: MutableMapping[str, list[float]], mixed_N: torch.Tensor, flat_N: torch.Tensor
) -> None:
    """TRL reported the mix under w(t-1); put the one under w(t) in its place.

    Args:
        logged: TRL's metrics of the step.
        mixed_N: Rewards mixed anew.
        flat_N: Whether a rollout's group has no spread under them.
    """
    logged["reward"][-1] = torch.nanmean(mixed_N).item()
    logged["reward_std"][-1] = nanstd(mixed_N).item()
    logged["frac_reward_zero_std"][-1] = flat_N.float().mean().item()


def correct_last(shown: MutableSequence[float], values: Sequence[float]) -> None:
    """Put values in the place of the last ones of a log that may be shorter than they are."""
    for _ in range(min(len(values), len(shown))):
        shown.pop()
    shown.extend(values)
