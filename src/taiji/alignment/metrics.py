"""What a step reports about its rewards and its weights, under TRL's way of naming metrics.

Shape suffixes: K rewards, P prompts, G rollouts per prompt.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from taiji.alignment.weights import Array, group_spread


def spread(
    names: Sequence[str], rewards_PGK: Array, applicable_PGK: NDArray[np.bool_]
) -> dict[str, float]:
    """Within-group mean, deviation, and share of groups in which a reward ranks nothing."""
    mu_PK, sigma_PK = group_spread(rewards_PGK, applicable_PGK)
    values: dict[str, float] = {}
    for k, name in enumerate(names):
        seen_P = ~np.isnan(mu_PK[:, k])
        if seen_P.any():
            values[f"rewards/{name}/group_mean"] = float(mu_PK[seen_P, k].mean())
            values[f"rewards/{name}/group_std"] = float(sigma_PK[seen_P, k].mean())
            values[f"rewards/{name}/frac_zero_std"] = float((sigma_PK[seen_P, k] == 0).mean())
    return values


def alignment(names: Sequence[str], alignment_K: Array, cosine_KK: Array) -> dict[str, float]:
    """I of Eq. 6 for each reward, and the cosine of each pair of gradients."""
    values = {
        f"popo/I_{name}": float(score) for name, score in zip(names, alignment_K, strict=True)
    }
    for i, j in combinations(range(len(names)), 2):
        pair = "" if len(names) == 2 else f"_{names[i]}_{names[j]}"
        values[f"popo/cos{pair}"] = float(cosine_KK[i, j])
    return values
