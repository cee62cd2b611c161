"""What a user buys next, guessed from the log alone: lists that stand beside a language model's.

Every list is as of the example's cut-off. Shape suffixes: C titles of the catalogue.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taiji.arrays import Array, Ints
from taiji.lists.purchase_log import PurchaseLog, microseconds
from taiji.lists.title_lists import TitleList, Titles
from taiji.schema import TIME

LISTS = (
    "popular",
    "popular_new",
    "own_frequent",
    "own_recent",
    "item_to_item",
    "item_to_item_new",
)


@dataclass(frozen=True)
class Moment:
    """What the log says of every title at the cut-off of one example.

    Attributes:
        popularity_C: Lines of all users.
        own_C: Lines of this user.
        latest_C: When this user last bought it, in microseconds; 0 for never.
        related_C: How often it was bought by those who bought what this user has.
        cutoff: In microseconds.
    """

    popularity_C: Array
    own_C: Array
    latest_C: Array
    related_C: Array
    cutoff: int

    @property
    def bought_C(self) -> NDArray[np.bool_]:
        """Titles that are not new to the user."""
        bought: NDArray[np.bool_] = self.own_C > 0
        return bought

    def lists(self) -> dict[str, TitleList]:
        """The lists of `LISTS`.

        Most bought by all, the same without what the user has; the user's own, most bought
        first and latest first, each deciding between equals of the other; related to what the
        user has, and the same without that.
        """
        popular, related = map(TitleList.of_counts, (self.popularity_C, self.related_C))
        frequent = _ordered(self.latest_C, self.own_C)
        recent = _ordered(self.own_C, self.latest_C)
        return {
            "popular": popular,
            "popular_new": popular.without(self.bought_C),
            "own_frequent": TitleList(frequent, self.own_C).without(~self.bought_C),
            "own_recent": TitleList(recent, self.own_C).without(~self.bought_C),
            "item_to_item": related,
            "item_to_item_new": related.without(self.bought_C),
        }


class TitlePriors:
    """A log, to be asked for the moments of examples.

    Which titles are bought together is counted once, over lines before `before`; popularity and
    the user's own past are counted up to each example's cut-off.

    Args:
        interactions: Of all users.
        items: Gives the title of each of them; titles outside of the catalogue do not count.
        before: Not later than any cut-off that will be asked about.
    """

    def __init__(
        self, interactions: pa.Table, items: pa.Table, titles: Titles, before: datetime
    ) -> None:
        self._size = len(titles)
        self._log = PurchaseLog(_by_title(interactions, items, titles))
        place = {item: number for number, item in enumerate(titles.item_ids)}
        self._places = np.array([place[item] for item in self._log.item_ids], dtype=np.int64)
        self._user_codes = {user: code for code, user in enumerate(self._log.user_ids)}
        self._before = before
        limit = int(microseconds(pa.chunked_array([pa.array([before], TIME)]))[0])
        num_early = int(np.searchsorted(self._log.times, limit, side="left"))
        num_items = len(self._log.item_ids)
        pairs = np.unique(self._log.users[:num_early] * num_items + self._log.items[:num_early])
        self._pair_users, self._pair_items = np.divmod(pairs, max(num_items, 1))
        buyers = np.bincount(self._pair_items, minlength=num_items)
        self._rarity = np.zeros(num_items)
        self._rarity[buyers > 0] = buyers[buyers > 0] ** -0.5

    def moments(self, examples: pa.Table) -> Iterator[tuple[int, Moment]]:
        """The row and the moment of each example, earliest first.

        Raises:
            ValueError: A cut-off lies before the moment up to which pairs were counted.
        """
        users = examples["user_id"].to_pylist()
        if any(cutoff < self._before for cutoff in examples["cutoff"].to_pylist()):
            raise ValueError(f"a cut-off lies before {self._before}: its future was counted")
        cutoffs = microseconds(examples["cutoff"])
        for row, popularity in self._log.popularity_at(cutoffs):
            items, times = self._log.history(users[row], cutoffs[row])
            latest = np.zeros(popularity.size)
            latest[items] = times  # in the order of time, so the last assignment is the latest
            own = np.bincount(items, minlength=popularity.size)
            related = self._related(users[row], own)
            yield (
                row,
                Moment(
                    popularity_C=self._spread(popularity),
                    own_C=self._spread(own),
                    latest_C=self._spread(latest),
                    related_C=self._spread(related),
                    cutoff=int(cutoffs[row]),
                ),
            )

    def _related(self, user: str, own: Ints) -> Array:
        """sum_i cos(i, j) over the titles i that the user has.

        cos(i, j) is the number of other users who have both, over the root of the product of
        those who have either. Summed through the users, the table of pairs need not exist.
        """
        if not self._pair_items.size:
            return np.zeros(own.size)
        has = np.where(own > 0, self._rarity, 0.0)
        likeness = np.bincount(
            self._pair_users, weights=has[self._pair_items], minlength=len(self._log.user_ids)
        )
        if user in self._user_codes:  # nobody is their own neighbour
            likeness[self._user_codes[user]] = 0.0
        summed = np.bincount(
            self._pair_items, weights=likeness[self._pair_users], minlength=own.size
        )
        related: Array = summed * self._rarity
        return related

    def _spread(self, values: NDArray[Any]) -> Array:
        spread_C = np.zeros(self._size)
        spread_C[self._places] = values
        return spread_C


def _ordered(second_C: Array, first_C: Array) -> Array:
    """Places from the end, by the first figure and among equals by the second."""
    place_C = np.empty(first_C.size)
    place_C[np.lexsort((second_C, first_C))] = np.arange(first_C.size)
    return place_C


def _by_title(interactions: pa.Table, items: pa.Table, titles: Titles) -> pa.Table:
    """The lines whose title the catalogue holds, under the catalogue's item of that title."""
    known = titles.places(items)
    same = pa.array(list(known), pa.string())
    standing = pa.array([titles.item_ids[place] for place in known.values()], pa.string())
    codes = pc.index_in(interactions["item_id"], value_set=same)
    lines = interactions.select(["user_id", "ts"]).append_column(
        "item_id", standing.take(codes.combine_chunks())
    )
    return lines.filter(pc.is_valid(lines["item_id"]))
