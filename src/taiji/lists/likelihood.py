"""How likely a language model finds each title of a catalogue, behind its prompt and its own chain.

log P(title | prompt, chain) is the sum over the title's tokens in the form of an answer, the mark
that ends it included. The titles lie behind prompt and chain in one row, under the mask of Eq. 1's
scoring. The same for a shopper of whom nothing is known says how likely a title is for anybody:
the difference is what the model reads out of this shopper.
"""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import PreTrainedModel

from taiji.arrays import Array
from taiji.data.item_text import SEPARATOR, item_text, one_part
from taiji.language.prompt import CompletionIds
from taiji.language.scoring import ModelScorer, Question
from taiji.reasoning.prompts import PromptFitter

_ROW_TITLES = 128
"""Titles in one row: attention grows with the square of its length."""


class TitleScorer:
    """Scores titles of a catalogue with one model.

    Args:
        model: In evaluation mode.
        fitter: Writes its prompts.
        catalogue: Rows of `schema.ITEMS`, one for each title.
    """

    def __init__(self, model: PreTrainedModel, fitter: PromptFitter, catalogue: pa.Table) -> None:
        self._scorer = ModelScorer(model)
        self._fitter = fitter
        self._rows = catalogue.to_pylist()
        self._title_ids: dict[int, list[int]] = {}
        self._anybody: dict[int, float] = {}

    def score(self, example: Mapping[str, Any], cot: str, places: Sequence[int]) -> Array:
        """log P(title | prompt, chain) of the titles at these places.

        Args:
            example: A row of `schema.EXAMPLES`.
            cot: The chain that the model wrote for it; empty if it wrote none.
            places: Rows of the catalogue.
        """
        scaffold = self._fitter.scaffold
        prompt, _ = self._fitter.fit(example)
        prompt_ids, whole = scaffold.prompt_ids(prompt), scaffold.completion_ids(cot, "")
        opening = whole.ids[: whole.answer_start]
        found: list[float] = []
        for start in range(0, len(places), _ROW_TITLES):
            titles = [self._ids(place) for place in places[start : start + _ROW_TITLES]]
            branches = [
                CompletionIds([*opening, *ids], len(opening), len(opening) + len(ids))
                for ids in titles
            ]
            (scores,) = self._scorer.score([Question(prompt_ids, branches)])
            found += [float(logprobs_T.sum()) for logprobs_T in scores]
        return np.array(found)

    def score_for_anybody(self, example: Mapping[str, Any], places: Sequence[int]) -> Array:
        """The same without profile, history and chain; computed once for each title.

        Args:
            example: Any; only its form is used.
            places: Rows of the catalogue.
        """
        missing = [place for place in dict.fromkeys(places) if place not in self._anybody]
        nobody = {**example, "profile": "", "history": []}
        if missing:
            scores = self.score(nobody, "", missing).tolist()
            self._anybody.update(zip(missing, scores, strict=True))
        return np.array([self._anybody[place] for place in places])

    def _ids(self, place: int) -> list[int]:
        """The title's tokens as they open an answer, with the mark that ends the title.

        Cut out of the whole answer, so that they are the tokens that the model learnt.
        """
        if place not in self._title_ids:
            row, scaffold = self._rows[place], self._fitter.scaffold
            alone = scaffold.data_ids(one_part(row["title"]) + SEPARATOR.rstrip())
            pairs = zip(alone, scaffold.data_ids(item_text(row)), strict=False)
            shared = [ours for ours, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
            self._title_ids[place] = shared or alone
        return self._title_ids[place]
