"""What users did, as numbers, user by user: what a log of millions costs in memory is this.

Shape suffixes: E lines, U users, N questions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taiji.arrays import Ints
from taiji.ranking.columns import microseconds, places
from taiji.ranking.price_levels import log_prices

LINES_AT_A_TIME = 1 << 18
"""Lines, and questions about them, that are worked on at once: each is some 500 bytes then."""


@dataclass(frozen=True)
class Lines:
    """Lines of a log, ordered by user, then time, then item.

    Attributes:
        item_E: Catalogue rows.
        ts_E: Microseconds.
        log_price_E: Logs of prices in the units of `log_prices`, which fit; 0 where there is none.
        priced_E: Whether there is one.
        first_U: (U + 1,) where the lines of each user begin; those of the last end at the last.
    """

    item_E: NDArray[np.int32]
    ts_E: Ints
    log_price_E: NDArray[np.int32]
    priced_E: NDArray[np.bool_]
    first_U: Ints

    @classmethod
    def from_table(cls, table: pa.Table, user_ids: pa.Array, item_ids: pa.Array) -> "Lines":
        """Read columns of `schema.INTERACTIONS`, in any order.

        Raises:
            DataError: A line names a user or an item that is not known.
        """
        user = places(table["user_id"], user_ids, "user").astype(np.int32)
        item = places(table["item_id"], item_ids, "item").astype(np.int32)
        ts = microseconds(table["ts"])
        order = np.lexsort((item, ts, user))
        prices = log_prices(table)
        return cls(
            item[order],
            ts[order],
            prices["log_price"].astype(np.int32)[order],
            (prices["priced"] > 0)[order],
            np.searchsorted(user[order], np.arange(len(user_ids) + 1)),
        )

    def before(self, user_N: Ints, ts_N: Ints) -> tuple[Ints, Ints]:
        """Where the lines of each user before, and not at, a moment begin and end."""
        low, high = self.first_U[user_N], self.first_U[user_N + 1]
        start = low.copy()
        while (open_N := low < high).any():
            middle = np.minimum((low + high) // 2, self.ts_E.size - 1)
            earlier = open_N & (self.ts_E[middle] < ts_N)
            low = np.where(earlier, middle + 1, low)
            high = np.where(open_N & ~earlier, middle, high)
        return start, low

    def of(self, users: Ints) -> tuple[Ints, Ints]:
        """Rows of the lines of some users, each named once, and whose each is."""
        sizes = self.first_U[users + 1] - self.first_U[users]
        ends = np.cumsum(sizes)
        rows = np.arange(ends[-1] if ends.size else 0)
        return rows + np.repeat(self.first_U[users] - ends + sizes, sizes), np.repeat(users, sizes)

    def amounts(self, rows: Ints) -> dict[str, Ints]:
        """What there is to sum of some lines: the prices, as `log_prices` has them."""
        return {
            "priced": self.priced_E[rows].astype(np.int64),
            "log_price": self.log_price_E[rows].astype(np.int64),
        }

    def some_users(self) -> Iterator[Ints]:
        """All users, so many at a time that their lines are few."""
        users = np.arange(self.first_U.size - 1)
        yield from (users[part] for part in self.pieces(users))

    def pieces(self, user_N: Ints) -> Iterator[slice]:
        """Cut questions about users, in their order, so that they and the users' lines are few."""
        new = np.diff(user_N, prepend=-1) != 0
        lines_N = np.where(new, self.first_U[user_N + 1] - self.first_U[user_N], 0)
        piece_N = np.cumsum(1 + lines_N) // LINES_AT_A_TIME
        edges = [0, *(np.flatnonzero(np.diff(piece_N)) + 1), user_N.size]
        return (slice(low, high) for low, high in pairwise(edges) if low < high)
