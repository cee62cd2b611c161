"""Trivial answers that a language model has to beat: popular items and the user's own past.

Every answer is as of the example's cut-off: an event at or after it changes nothing.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

BASELINES = ("most_popular", "most_popular_new", "most_frequent", "last_bought")

Codes = NDArray[np.int64]
Answers = dict[str, list[str | None]]


def baseline_answers(interactions: pa.Table, examples: pa.Table) -> Answers:
    """One item id per baseline and example, in the order of `examples`.

    `most_popular` is the item on most lines of all users, `most_popular_new` the same among
    items that the user never bought, `most_frequent` the user's own favourite (the later
    bought of equals), `last_bought` an item of the user's last order. Remaining ties go to
    the smaller item id. None where there is no such item.
    """
    log = _Log(interactions)
    answers: Answers = {name: [None] * examples.num_rows for name in BASELINES}
    users = examples["user_id"].to_pylist()
    cutoffs = _microseconds(examples["cutoff"])
    for row, popularity in log.popularity_at(cutoffs):
        own_items, own_times = log.history(users[row], cutoffs[row])
        unseen = popularity.copy()
        unseen[own_items] = 0
        answers["most_popular"][row] = log.most(popularity)
        answers["most_popular_new"][row] = log.most(unseen)
        answers["most_frequent"][row] = log.favourite(own_items, own_times)
        answers["last_bought"][row] = log.last(own_items, own_times)
    return answers


class _Log:
    """The interactions as integer codes in the order of time."""

    def __init__(self, interactions: pa.Table) -> None:
        ordered = interactions.sort_by([("ts", "ascending"), ("item_id", "ascending")])
        self.item_ids: list[str] = sorted(pc.unique(ordered["item_id"]).to_pylist())
        self.items = _codes(ordered["item_id"], self.item_ids)
        self.times = _microseconds(ordered["ts"])
        user_ids = sorted(pc.unique(ordered["user_id"]).to_pylist())
        users = _codes(ordered["user_id"], user_ids)
        by_user = np.argsort(users, kind="stable")
        bounds = np.searchsorted(users[by_user], np.arange(len(user_ids) + 1))
        self._rows = {
            user: by_user[start:stop]
            for user, start, stop in zip(user_ids, bounds[:-1], bounds[1:], strict=True)
        }

    def popularity_at(self, cutoffs: Codes) -> Iterator[tuple[int, Codes]]:
        """Lines per item before each cut-off, earliest cut-off first, as (row, counts)."""
        counts = np.zeros(len(self.item_ids), dtype=np.int64)
        start = 0
        for row in np.argsort(cutoffs, kind="stable"):
            stop = int(np.searchsorted(self.times, cutoffs[row], side="left"))
            counts += np.bincount(self.items[start:stop], minlength=len(counts))
            start = stop
            yield int(row), counts

    def history(self, user: str, cutoff: int) -> tuple[Codes, Codes]:
        """Items and times of the user's lines strictly before `cutoff`."""
        rows = self._rows.get(user, np.empty(0, dtype=np.int64))
        rows = rows[: np.searchsorted(self.times[rows], cutoff, side="left")]
        return self.items[rows], self.times[rows]

    def most(self, counts: Codes) -> str | None:
        """The first item of the highest count."""
        if counts.size == 0 or counts.max() == 0:
            return None
        return self.item_ids[int(counts.argmax())]

    def favourite(self, items: Codes, times: Codes) -> str | None:
        """The most frequent item; of equals the later bought, then the smaller id."""
        if items.size == 0:
            return None
        kinds, counts = np.unique(items, return_counts=True)
        latest = np.zeros(len(self.item_ids), dtype=np.int64)
        latest[items] = times  # in the order of time, so the last assignment is the latest
        best = np.lexsort((kinds, -latest[kinds], -counts))[0]
        return self.item_ids[int(kinds[best])]

    def last(self, items: Codes, times: Codes) -> str | None:
        """The first item of the last order's moment."""
        if items.size == 0:
            return None
        return self.item_ids[int(items[times == times[-1]].min())]


def _codes(column: pa.ChunkedArray, ids: list[str]) -> Codes:
    codes = pc.index_in(column, value_set=pa.array(ids, type=pa.string()))
    return np.asarray(codes.combine_chunks().to_numpy(zero_copy_only=False), dtype=np.int64)


def _microseconds(column: pa.ChunkedArray) -> Codes:
    whole = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    return np.asarray(whole.combine_chunks().to_numpy(zero_copy_only=False), dtype=np.int64)
