"""When a text is written and which exposures it serves: once a window, a week or a visit.

Shape suffixes: N exposures, M moments.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from taiji.arrays import Ints
from taiji.lift.purchases import Purchases

Refresh = Literal["window", "week", "visit"]


@dataclass(frozen=True)
class Moments:
    """Texts of one refresh.

    Attributes:
        user_M: Whose.
        begins_M: When it is written; what it may have read lies strictly before.
        ends_M: What an oracle foresees lies in [begins, ends).
        of_row_N: The text that serves each exposure; none is written after it.
    """

    user_M: Ints
    begins_M: Ints
    ends_M: Ints
    of_row_N: Ints


@dataclass(frozen=True)
class Shown:
    """The exposures of a window.

    Attributes:
        user_N: Row of the user.
        ts_N: Microseconds.
        visit_N: `Pairs.histories()`: equal for exposures of a user with the same past.
        starts: Of the window, microseconds.
        ends: Of the window.
    """

    user_N: Ints
    ts_N: Ints
    visit_N: Ints
    starts: int
    ends: int


def plan_moments(
    refresh: Refresh, shown: Shown, week_starts: Sequence[int], purchases: Purchases
) -> Moments:
    """The texts that a refresh asks for.

    `window` and `week` begin with the window or the calendar's week and foresee what is bought in
    it. `visit` begins with the first exposure of a visit and foresees the user's next basket.
    """
    if refresh == "visit":
        return _by_visit(shown, purchases)
    borders = np.array([shown.starts], dtype=np.int64)
    if refresh == "week":
        inner = [start for start in week_starts if shown.starts < start < shown.ends]
        borders = np.array([shown.starts, *inner], dtype=np.int64)
    part_N = np.searchsorted(borders, shown.ts_N, side="right") - 1
    key_M, of_row_N = np.unique(shown.user_N * borders.size + part_N, return_inverse=True)
    part_M = key_M % borders.size
    ends = np.append(borders[1:], shown.ends)
    return Moments(key_M // borders.size, borders[part_M], ends[part_M], of_row_N)


def _by_visit(shown: Shown, purchases: Purchases) -> Moments:
    _, first_M, of_row_N = np.unique(shown.visit_N, return_index=True, return_inverse=True)
    begins_M = np.full(first_M.size, np.iinfo(np.int64).max)
    np.minimum.at(begins_M, of_row_N, shown.ts_N)
    user_M = shown.user_N[first_M]
    ends_M = np.minimum(purchases.next_basket_ends(user_M, begins_M), shown.ends)
    return Moments(user_M, begins_M, ends_M, of_row_N)
