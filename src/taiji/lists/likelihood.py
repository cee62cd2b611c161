"""How likely a language model finds titles or categories, behind its prompt and its own chain.

log P(title | prompt, chain) is the sum over the title's tokens in the form of an answer, the mark
that ends it included; a category is scored in the same way, as the opening of an answer. All lie
behind prompt and chain in one row, under the mask of Eq. 1's scoring. The same for a shopper of
whom nothing is known says how likely each is for anybody: the difference is what the model reads
out of this shopper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import PreTrainedModel

from taiji.arrays import Array
from taiji.data.item_text import SEPARATOR, item_text, one_part
from taiji.language.completions import list_answer
from taiji.language.prompt import CompletionIds
from taiji.language.scoring import ModelScorer, Question
from taiji.reasoning.prompts import PromptFitter

_ROW_OPENINGS = 128
"""Openings in one row: attention grows with the square of its length."""


@dataclass(frozen=True)
class Opening:
    """Words that an answer may begin with.

    Attributes:
        alone: The words and the mark that ends them.
        whole: An answer that begins with them: their tokens are cut out of it, so that they are
            those that the model learnt.
    """

    alone: str
    whole: str


def title_openings(catalogue: pa.Table, answers: int) -> list[Opening]:
    """The title of each row of `schema.ITEMS` as an answer would name it.

    Args:
        catalogue: The items.
        answers: How many items are asked for. A single answer begins with the title, and the mark
            behind it counts. A line of several ends with it: all of the line is asked for.
    """
    rows = catalogue.to_pylist()
    if answers == 1:
        return [
            Opening(one_part(row["title"]) + SEPARATOR.rstrip(), item_text(row)) for row in rows
        ]
    lines = [list_answer([item_text(row)]) for row in rows]
    return [Opening(f"{line}\n", f"{line}\n{line}") for line in lines]


def category_openings(paths: Sequence[Sequence[str]], answers: int) -> list[Opening]:
    """Each category as an answer would begin with it.

    Args:
        paths: Names from the top down.
        answers: How many items are asked for. Lines of several begin with the path. A single
            answer begins with a title, and there the category's own name stands as one.
    """
    openings = []
    for path in paths:
        names = [one_part(name) for name in path]
        opening = names if answers > 1 else names[-1:]
        rest = names[-1:] if answers > 1 else names
        alone = SEPARATOR.join(opening) + SEPARATOR.rstrip()
        openings.append(Opening(alone, SEPARATOR.join([*opening, *rest])))
    return openings


class OpeningScorer:
    """Scores openings of answers with one model.

    Args:
        model: In evaluation mode.
        fitter: Writes its prompts.
        openings: What can be asked for, by place.
    """

    def __init__(
        self, model: PreTrainedModel, fitter: PromptFitter, openings: Sequence[Opening]
    ) -> None:
        self._scorer = ModelScorer(model)
        self._fitter = fitter
        self._openings = openings
        self._opening_ids: dict[int, list[int]] = {}
        self._anybody: dict[tuple[tuple[str, ...], int], float] = {}

    def score(self, example: Mapping[str, Any], cot: str, places: Sequence[int]) -> Array:
        """log P(opening | prompt, chain) of the openings at these places.

        Args:
            example: A row of `schema.EXAMPLES`.
            cot: The chain that the model wrote for it; empty if it wrote none.
            places: Of the openings.
        """
        scaffold = self._fitter.scaffold
        prompt, _ = self._fitter.fit(example)
        prompt_ids, whole = scaffold.prompt_ids(prompt), scaffold.completion_ids(cot, "")
        opening = whole.ids[: whole.answer_start]
        found: list[float] = []
        for start in range(0, len(places), _ROW_OPENINGS):
            asked = [self._ids(place) for place in places[start : start + _ROW_OPENINGS]]
            branches = [
                CompletionIds([*opening, *ids], len(opening), len(opening) + len(ids))
                for ids in asked
            ]
            (scores,) = self._scorer.score([Question(prompt_ids, branches)])
            found += [float(logprobs_T.sum()) for logprobs_T in scores]
        return np.array(found)

    def score_for_anybody(self, example: Mapping[str, Any], places: Sequence[int]) -> Array:
        """The same without profile, history and chain; computed once for each opening and offer.

        Args:
            example: Its form and its offer are used.
            places: Of the openings.
        """
        offer = tuple(example.get("offer") or ())
        missing = [one for one in dict.fromkeys(places) if (offer, one) not in self._anybody]
        nobody = {**example, "profile": "", "history": []}
        if missing:
            scores = self.score(nobody, "", missing).tolist()
            keys = [(offer, place) for place in missing]
            self._anybody.update(zip(keys, scores, strict=True))
        return np.array([self._anybody[offer, place] for place in places])

    def _ids(self, place: int) -> list[int]:
        if place not in self._opening_ids:
            opening, scaffold = self._openings[place], self._fitter.scaffold
            alone = scaffold.data_ids(opening.alone)
            pairs = zip(alone, scaffold.data_ids(opening.whole), strict=False)
            shared = [ours for ours, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
            self._opening_ids[place] = shared or alone
        return self._opening_ids[place]
