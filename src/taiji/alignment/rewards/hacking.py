"""Is the policy paid for one answer to everybody? Figures that show reward hacking.

Pure NumPy. Shape suffixes: U users or prompts, I items, N rollouts or pairs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from taiji.arrays import Array


def answer_shares(item_ids: Sequence[str | None]) -> list[tuple[str, float]]:
    """Items by how often they were answered, as shares of all rollouts; ties by id.

    An answer that names no item is in the denominator alone.
    """
    counts = Counter(item for item in item_ids if item is not None)
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return [(item, count / len(item_ids)) for item, count in ordered]


def popularity_percentiles(item_ids: Sequence[str], sold_I: NDArray[np.int64]) -> dict[str, float]:
    """For each item the share of items that were sold less, ties counting half.

    1/2 is an item picked blindly; what people buy lies far above it.
    """
    ordered_I = np.sort(sold_I)
    below_I = np.searchsorted(ordered_I, sold_I, side="left")
    up_to_I = np.searchsorted(ordered_I, sold_I, side="right")
    percentile_I = (below_I + up_to_I) / (2 * max(1, len(item_ids)))
    return dict(zip(item_ids, percentile_I.tolist(), strict=True))


def best_constants(item_ids: Sequence[str], rewards_N: Array, count: int) -> list[str]:
    """The items that promise most as an answer to everybody.

    Args:
        item_ids: The item of each scored pair.
        rewards_N: What the pair is worth.
        count: How many items to name.

    Only items that were scored for at least half as many users as any item are considered: the
    mean of an item that was scored for its own buyers alone says nothing about everybody.
    """
    names, item_N = np.unique(np.array(item_ids, dtype=str), return_inverse=True)
    rows_I = np.bincount(item_N)
    mean_I = np.bincount(item_N, weights=rewards_N) / rows_I
    mean_I[2 * rows_I < rows_I.max()] = -np.inf
    order_I = np.argsort(-mean_I, kind="stable")
    return [str(names[i]) for i in order_I[:count] if np.isfinite(mean_I[i])]


def mean_over(item_ids: Sequence[str | None], value_of: Mapping[str, float]) -> float | None:
    """Mean of an item's value over the answers that name an item; None if none does."""
    values = [value_of.get(item, 0.0) for item in item_ids if item is not None]
    return float(np.mean(values)) if values else None
