"""Pairs of a user and an item at a moment, as a ranking model sees them.

Shape suffixes: N pairs, F dense features, L items of a sequence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from taiji.arrays import Ints
from taiji.ranking.columns import Coded
from taiji.ranking.ledger import joint_key


@dataclass(frozen=True)
class Pairs:
    """Features of N (user, item, time, placement) pairs.

    Attributes:
        dense: (N, F); one column for each of `DENSE`.
        fields: The categorical columns: item, l1, l2, l3, brand and placement, then `user.<name>`
            for every field of the users' profiles.
        user_ids: The user of each pair.
        ts: When each pair was shown, microseconds.
        item_l3: Category code of each catalogue row, for sequences.
    """

    dense: NDArray[np.float32]
    fields: Mapping[str, Coded]
    user_ids: NDArray[np.object_]
    ts: Ints
    item_l3: NDArray[np.int32]
    _events: NDArray[np.int32]
    _start: Ints
    _stop: Ints

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.dense)

    def take(self, rows: Ints) -> "Pairs":
        """The pairs at `rows`."""
        return replace(
            self,
            dense=self.dense[rows],
            fields={name: column.take(rows) for name, column in self.fields.items()},
            user_ids=self.user_ids[rows],
            ts=self.ts[rows],
            _start=self._start[rows],
            _stop=self._stop[rows],
        )

    def histories(self) -> Ints:
        """A number for each pair, the same for pairs of a user with the same past."""
        return joint_key(self._start, self._stop)

    def own_items(self, rows: Ints, length: int) -> NDArray[np.int32]:
        """Catalogue rows of the last `length` items before each pair, newest first, then -1."""
        return last_of(self._events, self._start[rows], self._stop[rows], length)


def last_of(events: NDArray[np.int32], start: Ints, stop: Ints, length: int) -> NDArray[np.int32]:
    """The last `length` events of each stretch, newest first, then -1."""
    at = stop[:, None] - 1 - np.arange(length)
    last = np.full(at.shape, -1, dtype=np.int32)
    inside = at >= start[:, None]
    last[inside] = events[at[inside]]
    return last
