"""What a list of answers earns, from what each of its lines would earn alone.

A list that is shorter than asked for has earned nothing in the missing places: otherwise the best
policy by the mean would be one line.

Shape suffixes: K lines asked for.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

ListReward = Literal["best", "mean", "ndcg"]


def list_reward(lines: Sequence[float], asked: int, kind: ListReward) -> float:
    """One reward of a list; 0 for an empty one.

    `best`: max_i r_i. `mean`: sum_i r_i / K. `ndcg`: sum_i r_i / log2(i + 1) over the same of K
    perfect lines, i from 1 (Jarvelin and Kekalainen 2002, with the reward as gain).

    Args:
        lines: Reward of each line, likeliest first; further ones than asked for do not count.
        asked: K.
        kind: Which.
    """
    gains_K = np.zeros(asked)
    own = np.asarray(lines[:asked], dtype=np.float64)
    gains_K[: own.size] = own
    match kind:
        case "best":
            return float(own.max()) if own.size else 0.0
        case "mean":
            return float(gains_K.mean())
        case "ndcg":
            discount_K = 1 / np.log2(np.arange(asked) + 2)
            return float(gains_K @ discount_K / discount_K.sum())
