"""The interactions as integer codes in the order of time, to be asked for what was known when.

Everything is as of a cut-off: an event at or after it changes nothing.
"""

from bisect import bisect_left
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taiji.arrays import Ints


class PurchaseLog:
    """Lines of a log: who, what, when.

    Attributes:
        item_ids: Of the codes in `items`, sorted.
        user_ids: Of the codes in `users`, sorted.
        items: The item of each line.
        users: The user of each line.
        times: Of each line, in microseconds, ascending.
    """

    def __init__(self, interactions: pa.Table) -> None:
        """Read the columns `user_id`, `item_id` and `ts`."""
        lines = interactions.select(["user_id", "item_id", "ts"])
        ordered = lines.sort_by([("ts", "ascending"), ("item_id", "ascending")])
        self.item_ids: list[str] = sorted(pc.unique(ordered["item_id"]).to_pylist())
        self.user_ids: list[str] = sorted(pc.unique(ordered["user_id"]).to_pylist())
        self.items = _codes(ordered["item_id"], self.item_ids)
        self.users = _codes(ordered["user_id"], self.user_ids)
        self.times = microseconds(ordered["ts"])
        self._by_user = np.argsort(self.users, kind="stable")
        codes = np.arange(len(self.user_ids) + 1)
        self._bounds = np.searchsorted(self.users[self._by_user], codes)

    def popularity_at(self, cutoffs: Ints) -> Iterator[tuple[int, Ints]]:
        """Lines per item before each cut-off, earliest cut-off first, as (row, counts).

        The counts are one array that grows: use it before the next is asked for.
        """
        counts = np.zeros(len(self.item_ids), dtype=np.int64)
        start = 0
        for row in np.argsort(cutoffs, kind="stable"):
            stop = int(np.searchsorted(self.times, cutoffs[row], side="left"))
            counts += np.bincount(self.items[start:stop], minlength=len(counts))
            start = stop
            yield int(row), counts

    def history(self, user: str, cutoff: int) -> tuple[Ints, Ints]:
        """Items and times of the user's lines strictly before `cutoff`."""
        code = bisect_left(self.user_ids, user)
        is_known = code < len(self.user_ids) and self.user_ids[code] == user
        rows = self._by_user[self._bounds[code] : self._bounds[code + is_known]]
        rows = rows[: np.searchsorted(self.times[rows], cutoff, side="left")]
        return self.items[rows], self.times[rows]


def microseconds(column: pa.ChunkedArray) -> Ints:
    """Moments as whole microseconds since 1970."""
    whole = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    return np.asarray(whole.combine_chunks().to_numpy(zero_copy_only=False), dtype=np.int64)


def _codes(column: pa.ChunkedArray, ids: list[str]) -> Ints:
    codes = pc.index_in(column, value_set=pa.array(ids, type=pa.string()))
    return np.asarray(codes.combine_chunks().to_numpy(zero_copy_only=False), dtype=np.int64)
