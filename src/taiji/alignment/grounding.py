"""From free text to a catalogue item: the ladder that an answer climbs down.

1. exact: the answer's title is an item's title, but for case and white space;
2. category: the nearest item, by embedding, in the deepest category that the answer names;
3. catalogue: the nearest item of all, if its cosine is at least a floor;
4. none: the answer names nothing. It earns the floor of the reward and is counted.

Shape suffixes: N answers or items, D dimensions.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taiji.data.text import item_text
from taiji.language.encode import TextEncoder
from taiji.reasoning.completions import split_answer

COSINE_FLOOR = 0.5
"""Below it the nearest item is noise: with MiniLM idle talk reaches 0.38, a bare category 0.78."""

Rung = Literal["exact", "category", "catalogue", "none"]
Path = tuple[str, ...]


@dataclass(frozen=True)
class Grounded:
    """What an answer was taken for.

    Attributes:
        item_id: None on the last rung.
        rung: Which rung served.
        cosine: Of answer and item; 1 for an exact title, 0 where nothing was compared.
    """

    item_id: str | None
    rung: Rung
    cosine: float


class Grounder:
    """Finds the item that an answer names.

    Args:
        items: Columns of `schema.ITEMS`. The first rung knows all of them.
        encoder: Embeds answers and items alike.
        catalogue: The items that the embedding rungs may choose from; all, if missing. Their
            embeddings are computed at the first answer that needs them.
        floor: Lowest cosine of the third rung.
    """

    def __init__(
        self,
        items: pa.Table,
        encoder: TextEncoder,
        *,
        catalogue: pa.Table | None = None,
        floor: float = COSINE_FLOOR,
    ) -> None:
        self._encoder = encoder
        self._floor = floor
        self._by_title: dict[str, list[tuple[str, Path]]] = defaultdict(list)
        for row in items.to_pylist():
            self._by_title[_plain(row["title"])].append((row["item_id"], _path(row)))
        self._rows = (items if catalogue is None else catalogue).to_pylist()
        self._members: dict[Path, list[int]] = defaultdict(list)
        for index, row in enumerate(self._rows):
            path = _path(row)
            for depth in range(1, len(path) + 1):
                self._members[path[:depth]].append(index)

    def ground(
        self, answers: Sequence[str], embeddings_ND: NDArray[np.float32] | None = None
    ) -> list[Grounded]:
        """One verdict for each answer, in order.

        Args:
            answers: In the form `title; L1; L2; L3`; levels may be missing.
            embeddings_ND: Of the answers, if the caller has them.
        """
        verdicts = [self._exact(answer) for answer in answers]
        open_ = [n for n, verdict in enumerate(verdicts) if verdict is None and answers[n].strip()]
        if open_ and self._rows:
            if embeddings_ND is None:
                asked_ND = self._encoder.encode([answers[n] for n in open_])
            else:
                asked_ND = embeddings_ND[open_]
            for n, vector_D in zip(open_, asked_ND, strict=True):
                verdicts[n] = self._nearest(answers[n], vector_D)
        return [verdict or Grounded(None, "none", 0.0) for verdict in verdicts]

    @cached_property
    def _vectors(self) -> NDArray[np.float32]:
        return self._encoder.encode(
            [
                item_text(row["title"], row["category_l1"], row["category_l2"], row["category_l3"])
                for row in self._rows
            ]
        )

    def _exact(self, answer: str) -> Grounded | None:
        """The item of this title; among several the one that shares most of the category."""
        title, *levels = split_answer(answer)
        named = tuple(_plain(level) for level in levels if level)
        homonyms = self._by_title.get(_plain(title), [])
        if not homonyms or not title:
            return None
        best = min(homonyms, key=lambda item: (-_shared(item[1], named), item[0]))
        return Grounded(best[0], "exact", 1.0)

    def _nearest(self, answer: str, vector_D: NDArray[np.float32]) -> Grounded:
        members = self._named_category(answer)
        if members is not None:
            cosine_N = self._vectors[members] @ vector_D
            best = int(cosine_N.argmax())
            found = self._rows[members[best]]["item_id"]
            return Grounded(found, "category", float(cosine_N[best]))
        cosine_N = self._vectors @ vector_D
        best = int(cosine_N.argmax())
        if cosine_N[best] < self._floor:
            return Grounded(None, "none", float(cosine_N[best]))
        return Grounded(self._rows[best]["item_id"], "catalogue", float(cosine_N[best]))

    def _named_category(self, answer: str) -> list[int] | None:
        """Items of the deepest category that the answer names in full from the top."""
        _, *levels = split_answer(answer)
        path = _complete(levels)
        for depth in range(len(path), 0, -1):
            if path[:depth] in self._members:
                return self._members[path[:depth]]
        return None


def _plain(text: str) -> str:
    """A name as an answer would write it, without regard to case and white space."""
    return " ".join(item_text(text, None, None, None).split()).casefold()


def _path(row: dict[str, str | None]) -> Path:
    return _complete([row[f"category_l{level}"] for level in (1, 2, 3)])


def _complete(levels: Sequence[str | None]) -> Path:
    """Levels from the top down to the first gap: a category is known by its full path."""
    path: list[str] = []
    for level in levels:
        if not level:
            break
        path.append(_plain(level))
    return tuple(path)


def _shared(path: Path, named: Path) -> int:
    return sum(a == b for a, b in zip(path, named, strict=False))
