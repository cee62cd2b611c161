"""What users bought and when, by category: the oracle's future and the log's own past.

Shape suffixes: E events, M moments.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from taiji.arrays import Ints
from taiji.ranking.categories import NOTHING, Categories
from taiji.ranking.columns import microseconds, places


@dataclass(frozen=True)
class Purchases:
    """Events by user, then by time; those of items without a category are left out.

    Attributes:
        user_E: Row of the user in the users table.
        ts_E: Microseconds since 1970, UTC.
        node_E: Category of the item.
    """

    user_E: Ints
    ts_E: Ints
    node_E: Ints
    _moments: Ints  # all distinct times, ascending
    _key_E: Ints

    @classmethod
    def from_tables(
        cls, interactions: pa.Table, users: pa.Table, items: pa.Table, categories: Categories
    ) -> "Purchases":
        """Read columns of the tables that `construct` writes.

        Raises:
            DataError: An interaction names a user or an item that the other tables lack.
        """
        user = places(interactions["user_id"], users["user_id"].combine_chunks(), "user")
        item = places(interactions["item_id"], items["item_id"].combine_chunks(), "item")
        ts, node = microseconds(interactions["ts"]), categories.of_item[item]
        known = np.flatnonzero(node != NOTHING)
        order = known[np.lexsort((ts[known], user[known]))]
        moments, tick = np.unique(ts[order], return_inverse=True)
        key = user[order] * (moments.size + 1) + tick
        return cls(user[order], ts[order], node[order], moments, key)

    def place(self, user_M: Ints, ts_M: Ints) -> Ints:
        """The row of the first event of each user at or after a moment; it may be another's."""
        tick_M = np.searchsorted(self._moments, ts_M, side="left")
        return np.searchsorted(self._key_E, user_M * (self._moments.size + 1) + tick_M)

    def next_basket_ends(self, user_M: Ints, ts_M: Ints) -> Ints:
        """Just after the user's first event at or after a moment; the moment if there is none."""
        row_M = np.minimum(self.place(user_M, ts_M), max(self.user_E.size - 1, 0))
        if not self.user_E.size:
            return ts_M
        own_M = (self.user_E[row_M] == user_M) & (self.ts_E[row_M] >= ts_M)
        return np.where(own_M, self.ts_E[row_M] + 1, ts_M)

    def between(self, user_M: Ints, begins_M: Ints, ends_M: Ints) -> tuple[Ints, Ints]:
        """Distinct (moment, category) of the events of [begins, ends), as two equal columns."""
        moment, node = self.lines(user_M, begins_M, ends_M)
        distinct = np.unique(moment * (self.num_nodes + 1) + node)
        return distinct // (self.num_nodes + 1), distinct % (self.num_nodes + 1)

    def lines(self, user_M: Ints, begins_M: Ints, ends_M: Ints) -> tuple[Ints, Ints]:
        """(moment, category) of every event of [begins, ends)."""
        start_M, stop_M = self.place(user_M, begins_M), self.place(user_M, ends_M)
        length_M = np.maximum(stop_M - start_M, 0)
        moment = np.repeat(np.arange(length_M.size), length_M)
        within = np.arange(moment.size) - np.repeat(np.cumsum(length_M) - length_M, length_M)
        return moment, self.node_E[start_M[moment] + within]

    @property
    def num_nodes(self) -> int:
        """One more than the largest category bought."""
        return int(self.node_E.max(initial=-1)) + 1
