"""Ordered lists of catalogue titles, and how they are judged against the true next item.

An answer names one item. A ranking by popularity, or a language model's likelihood of each title,
orders all of them. Both are asked the same questions: where does the true title stand, and which
category does the list as a whole point to?

Shape suffixes: C titles of the catalogue.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taiji.arrays import Array
from taiji.data.item_text import CategoryPath, category_path, plain_name
from taiji.schema import OUTSIDE

_LEVELS = (1, 2, 3)


@dataclass(frozen=True)
class TitleList:
    """An order of the titles, and how much is believed in each.

    Attributes:
        score_C: Higher stands earlier; -inf does not stand on the list at all.
        mass_C: How much is believed in each title, at least 0; categories are guessed by it.
    """

    score_C: Array
    mass_C: Array

    @classmethod
    def of_counts(cls, count_C: NDArray[Any]) -> "TitleList":
        """A list of the titles with a count, most first."""
        counts = count_C.astype(np.float64)
        return cls(np.where(counts > 0, counts, -np.inf), counts)

    def without(self, gone_C: NDArray[np.bool_]) -> "TitleList":
        """The same list with some titles struck out."""
        return TitleList(
            np.where(gone_C, -np.inf, self.score_C), np.where(gone_C, 0.0, self.mass_C)
        )

    @property
    def first(self) -> int | None:
        """The title at the head, the earlier row of equals; None for an empty list."""
        best = int(self.score_C.argmax())
        return best if np.isfinite(self.score_C[best]) else None


class Titles:
    """The catalogue's titles and the categories they stand under.

    Args:
        catalogue: Rows of `schema.ITEMS`, one for each title.
    """

    def __init__(self, catalogue: pa.Table) -> None:
        rows = catalogue.to_pylist()
        self.item_ids: list[str] = [row["item_id"] for row in rows]
        self._names = [plain_name(row["title"]) for row in rows]
        self._place = {name: place for place, name in enumerate(self._names)}
        paths = [category_path(row) for row in rows]
        self._classes: dict[int, list[CategoryPath]] = {}
        self._class_of: dict[int, NDArray[np.int64]] = {}
        for level in _LEVELS:
            numbers: dict[CategoryPath, int] = defaultdict(lambda: len(numbers))  # noqa: B023
            found = [numbers[path[:level]] if len(path) >= level else -1 for path in paths]
            self._classes[level], self._class_of[level] = list(numbers), np.array(found, np.int64)

    def __len__(self) -> int:
        """C."""
        return len(self.item_ids)

    def place(self, title: str) -> int | None:
        """Where a title stands in the catalogue, in any case of letters."""
        return self._place.get(plain_name(title))

    def places(self, items: pa.Table) -> dict[str, int]:
        """The title of every item that the catalogue holds, whatever its own category."""
        pairs = zip(items["item_id"].to_pylist(), items["title"].to_pylist(), strict=True)
        known = ((item, self.place(title)) for item, title in pairs)
        return {item: place for item, place in known if place is not None}

    def category(self, level: int, mass_C: Array) -> CategoryPath | None:
        """The class, by its full path, that holds most of a list's mass; None for no mass."""
        known = self._class_of[level] >= 0
        if not self._classes[level] or not mass_C[known].sum() > 0:
            return None
        held = np.bincount(self._class_of[level][known], weights=mass_C[known])
        return self._classes[level][int(held.argmax())]

    def category_mass(self, level: int, mass_C: Array) -> Array:
        """For each title the mass of all titles of its class; 0 for a title without the level."""
        class_C = self._class_of[level]
        held = np.bincount(class_C + 1, weights=mass_C, minlength=len(self._classes[level]) + 1)
        category_C: Array = np.where(class_C >= 0, held[class_C + 1], 0.0)
        return category_C

    def judge(self, listed: TitleList, truth: Mapping[str, Any]) -> dict[str, Any]:
        """Figures of one list against the true item, a row of `schema.ITEMS`.

        Titles of equal score rank behind one another, so that a list that does not decide earns
        nothing for it.
        """
        place, path = self.place(truth["title"]), category_path(truth)
        rank = OUTSIDE
        if place is not None and np.isfinite(listed.score_C[place]):
            rank = int((listed.score_C >= listed.score_C[place]).sum())
        first = listed.first
        hits = {
            f"category_l{level}": float(self.category(level, listed.mass_C) == path[:level])
            if len(path) >= level
            else None
            for level in _LEVELS
        }
        return {
            "title_rank": rank,
            "title_exact": float(first is not None and first == place),
            "top_item_id": None if first is None else self.item_ids[first],
            **hits,
        }


def interleave(orders: Sequence[NDArray[np.int64]], size: int) -> NDArray[np.int64]:
    """The first `size` distinct titles when the orders are dealt out by turns."""
    chosen: dict[int, None] = {}
    for turn in range(max(map(len, orders), default=0)):
        for order in orders:
            if turn < len(order) and len(chosen) < size:
                chosen.setdefault(int(order[turn]))
    return np.array(list(chosen), dtype=np.int64)
