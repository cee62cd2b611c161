"""From free text to a catalogue item: the ladder that an answer climbs down.

1. exact: the answer's title is an item's title, but for case and white space;
2. overlap: the title that shares most of its words with the answer's, if that is enough;
3. category: the nearest item, by embedding, in the deepest category that the answer names;
4. catalogue: the nearest item of all, if its cosine is at least a floor;
5. none: the answer names nothing. It earns the floor of the reward and is counted.

On rungs 3 and 4 an answer may stand for the nearest m items instead of one. That halves the
jump of the reward when a word of the answer changes, but it also pays idle talk nearly as much
as an average answer, so it goes together with a gate: a factor that rises with the cosine.

Shape suffixes: N answers or items, M nearest items, D dimensions.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taiji.alignment.rewards.title_index import TitleIndex
from taiji.data.item_text import CategoryPath, category_path, complete_path, item_text
from taiji.language.completions import split_answer
from taiji.language.encode import TextEncoder

COSINE_FLOOR = 0.5
"""Below it the nearest item is noise: with MiniLM idle talk reaches 0.38, a bare category 0.78."""

Rung = Literal["exact", "overlap", "category", "catalogue", "none"]
RUNGS: tuple[Rung, ...] = ("exact", "overlap", "category", "catalogue", "none")


@dataclass(frozen=True)
class Ladder:
    """How far an answer may be from an item's text and still mean it.

    Attributes:
        overlap: Smallest weighted word overlap of the second rung, in (0, 1]; None leaves the
            rung out. Two titles of four words that differ in one overlap by about 0.6.
        floor: Lowest cosine of the fourth rung.
        soft_items: m, the items that an embedding rung may hand out together.
        temperature: tau of their weights, softmax(cosine / tau).
        gate: Cosines at which the gate of the embedding rungs begins to open and is open; None
            for no gate.
    """

    overlap: float | None = 0.6
    floor: float = COSINE_FLOOR
    soft_items: int = 1
    temperature: float = 0.02
    gate: tuple[float, float] | None = None

    def openness(self, cosine: float) -> float:
        """g(cos): 0 up to the lower bound of the gate, 1 from the upper one, linear between."""
        if self.gate is None:
            return 1.0
        low, high = self.gate
        return float(np.clip((cosine - low) / (high - low), 0.0, 1.0))


@dataclass(frozen=True)
class Grounded:
    """What an answer was taken for.

    Attributes:
        item_ids: Nearest first; empty on the last rung.
        weights: Of the items; they sum to 1.
        rung: Which rung served.
        cosine: Of answer and nearest item; 1 on the first two rungs, 0 where nothing was compared.
        gate: Factor on the preference reward, in [0, 1].
    """

    item_ids: tuple[str, ...]
    weights: tuple[float, ...]
    rung: Rung
    cosine: float
    gate: float = 1.0

    @property
    def item_id(self) -> str | None:
        """The nearest item; None on the last rung."""
        return self.item_ids[0] if self.item_ids else None


def _nothing(cosine: float = 0.0) -> Grounded:
    return Grounded((), (), "none", cosine)


class Grounder:
    """Finds the item that an answer names.

    Args:
        items: Columns of `schema.ITEMS`. The first two rungs know all of them.
        encoder: Embeds answers and items alike.
        catalogue: The items that the embedding rungs may choose from; all, if missing. Their
            embeddings are computed at the first answer that needs them.
        ladder: Thresholds of the rungs.
    """

    def __init__(
        self,
        items: pa.Table,
        encoder: TextEncoder,
        *,
        catalogue: pa.Table | None = None,
        ladder: Ladder | None = None,
    ) -> None:
        self._encoder = encoder
        self._ladder = ladder or Ladder()
        self._titles = TitleIndex(items.to_pylist())
        self._rows = (items if catalogue is None else catalogue).to_pylist()
        self._members: dict[CategoryPath, list[int]] = defaultdict(list)
        for index, row in enumerate(self._rows):
            path = category_path(row)
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
        verdicts = [self._by_words(answer) for answer in answers]
        open_ = [n for n, verdict in enumerate(verdicts) if verdict is None and answers[n].strip()]
        if open_ and self._rows:
            if embeddings_ND is None:
                asked_ND = self._encoder.encode([answers[n] for n in open_])
            else:
                asked_ND = embeddings_ND[open_]
            for n, vector_D in zip(open_, asked_ND, strict=True):
                verdicts[n] = self._by_embedding(answers[n], vector_D)
        return [verdict or _nothing() for verdict in verdicts]

    def _by_words(self, answer: str) -> Grounded | None:
        exact = self._titles.exact(answer)
        if exact is not None:
            return Grounded((exact,), (1.0,), "exact", 1.0)
        if self._ladder.overlap is None:
            return None
        found = self._titles.overlap(answer, self._ladder.overlap)
        return None if found is None else Grounded((found[0],), (1.0,), "overlap", 1.0)

    @cached_property
    def _vectors_ND(self) -> NDArray[np.float32]:
        return self._encoder.encode([item_text(row) for row in self._rows])

    def _by_embedding(self, answer: str, vector_D: NDArray[np.float32]) -> Grounded:
        members = self._named_category(answer)
        if members is not None:
            return self._nearest(members, self._vectors_ND[members] @ vector_D, "category")
        cosine_N = self._vectors_ND @ vector_D
        if cosine_N.max() < self._ladder.floor:
            return _nothing(float(cosine_N.max()))
        return self._nearest(range(len(self._rows)), cosine_N, "catalogue")

    def _nearest(
        self, members: Sequence[int], cosine_N: NDArray[np.float32], rung: Rung
    ) -> Grounded:
        """The nearest m members, each with its share; among equals the earlier row."""
        count = min(self._ladder.soft_items, cosine_N.size)
        least = np.partition(cosine_N, -count)[-count]
        near = np.flatnonzero(cosine_N >= least)
        near = near[np.argsort(-cosine_N[near], kind="stable")][:count]
        cosine_M = cosine_N[near].astype(np.float64)
        share_M = np.exp((cosine_M - cosine_M[0]) / self._ladder.temperature)
        best = float(cosine_M[0])
        return Grounded(
            item_ids=tuple(self._rows[members[row]]["item_id"] for row in near.tolist()),
            weights=tuple((share_M / share_M.sum()).tolist()),
            rung=rung,
            cosine=best,
            gate=self._ladder.openness(best),
        )

    def _named_category(self, answer: str) -> list[int] | None:
        """Items of the deepest category that the answer names in full from the top."""
        _, *levels = split_answer(answer)
        path = complete_path(levels)
        for depth in range(len(path), 0, -1):
            if path[:depth] in self._members:
                return self._members[path[:depth]]
        return None
