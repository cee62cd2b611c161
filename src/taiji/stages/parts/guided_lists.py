"""Lists by a beam over categories and titles that a scorer of prefixes guides (Promise).

The scorer learns from the examples of `sft` and `rl`, which lie before the test. The generator is
the language model: how likely it finds each category, and then each title, behind the chain that it
wrote. Its answers' own words play no part.

Shape suffixes: E examples, C titles, L lines, D dimensions, B depths.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taiji.arrays import Array, Ints
from taiji.config import GuidedSection
from taiji.data.item_text import category_path, item_texts
from taiji.language.encode import TextEncoder
from taiji.language.path_scorer import Histories, PathSettings, fit_path_scorer
from taiji.lists.guided import PathTree, guided_beam
from taiji.lists.likelihood import Opening, category_openings, title_openings
from taiji.stages.parts.asked_models import AskedModel
from taiji.stages.parts.constructed import Constructed

_LINES = 20  # of a history, the newest
_LEARNERS = ("sft", "rl")


class GuidedLists:
    """A scorer of the catalogue's paths, trained once, and the beams that it guides.

    Args:
        logs: The log.
        catalogue: Rows of `schema.ITEMS`, one for each title.
        encoder: Of items.
        section: Sizes of the beam.
        answers: How many items a model is asked for; they decide how an answer begins.
        seed: Of the scorer.

    Raises:
        DataError: There are too few examples to learn from.
    """

    def __init__(
        self,
        logs: Constructed,
        catalogue: pa.Table,
        encoder: TextEncoder,
        section: GuidedSection,
        *,
        answers: int,
        seed: int,
    ) -> None:
        self._section, self._items, self._encoder = section, logs.items, encoder
        levels = catalogue.select([f"category_l{level}" for level in (1, 2, 3)]).to_pylist()
        self._tree = PathTree.of_catalogue([category_path(row) for row in levels])
        self._openings: list[Sequence[Opening]] = [
            *(category_openings(paths, answers) for paths in self._tree.paths),
            title_openings(catalogue, answers),
        ]
        learners = logs.examples(*_LEARNERS)
        targets = logs.items.take(
            pc.index_in(learners["target_item_id"], value_set=logs.items["item_id"])
        )
        titles = pc.index_in(targets["title"], value_set=catalogue["title"])
        place_E = pc.fill_null(titles, -1).to_numpy()
        paths_EB = np.where(place_E[:, None] >= 0, self._tree.of_title_NB[place_E], -1)
        histories = self._histories(learners)
        rows_N = np.flatnonzero((paths_EB[:, 0] >= 0) & histories.there_NL.any(axis=1))
        self._scorer = fit_path_scorer(
            histories.rows(rows_N),
            paths_EB[rows_N],
            self._tree.sizes,
            PathSettings(epochs=section.epochs),
            seed,
        )

    def survivors(self, model: AskedModel, examples: pa.Table, written: pa.Table) -> list[Ints]:
        """The titles that the guided beam ends with, best first; none for an empty history.

        Args:
            model: Whose likelihood proposes.
            examples: Rows of `schema.EXAMPLES`.
            written: What the model wrote for them.
        """
        histories = self._histories(examples)
        known_N = np.flatnonzero(histories.there_NL.any(axis=1))
        asked, said = examples.take(known_N), written.take(known_N)
        known = histories.rows(known_N)

        def likelihood(depth: int, candidates: Sequence[Ints]) -> list[Array]:
            what = f"guided {depth}"
            told = model.likelihoods(what, asked, said, candidates, self._openings[depth])
            return [one.likelihood for one in told]

        def worth(depth: int, candidates: Sequence[Ints]) -> list[Array]:
            return [
                self._scorer.scores(known.rows(np.array([row])), depth, own[None])[0]
                for row, own in enumerate(candidates)
            ]

        *_, titles = guided_beam(
            self._tree.expand,
            likelihood,
            worth,
            users=known_N.size,
            depths=len(self._openings),
            keep=self._section.keep,
            shown=self._section.shown,
        )
        found = [np.empty(0, dtype=np.int64)] * examples.num_rows
        for row, own in zip(known_N.tolist(), titles, strict=True):
            found[row] = own
        return found

    def alone(self, examples: pa.Table) -> Array:
        """What the scorer itself thinks of every title, E x C; -inf where it has no path."""
        histories, last = self._histories(examples), len(self._openings) - 1
        with_path_C = np.flatnonzero(self._tree.of_title_NB[:, 0] >= 0)
        worth_EC = np.full((examples.num_rows, len(self._tree.of_title_NB)), -np.inf)
        for row in np.flatnonzero(histories.there_NL.any(axis=1)).tolist():
            one = histories.rows(np.array([row]))
            worth_EC[row, with_path_C] = self._scorer.scores(one, last, with_path_C[None])[0]
        return worth_EC

    def _histories(self, examples: pa.Table) -> Histories:
        """Vectors of the items of the newest lines."""
        rows = examples["history"].to_pylist()
        lines = [self._lines(row) for row in rows]
        bought = sorted({item for own in lines for item in own})
        place = {item: n for n, item in enumerate(bought)}
        found = pc.index_in(pa.array(bought, pa.string()), value_set=self._items["item_id"])
        vectors_ID = self._encoder.encode(item_texts(self._items.take(found)))
        lines_ELD = np.zeros((len(rows), _LINES, self._encoder.dimension), dtype=np.float32)
        there_EL = np.zeros(lines_ELD.shape[:2], dtype=bool)
        for row, own in enumerate(lines):
            lines_ELD[row, : len(own)] = vectors_ID[[place[item] for item in own]]
            there_EL[row, : len(own)] = True
        return Histories(lines_ELD, there_EL)

    def _lines(self, history: Sequence[Mapping[str, Any]]) -> list[str]:
        return [line["item_id"] for line in history[:_LINES]]
