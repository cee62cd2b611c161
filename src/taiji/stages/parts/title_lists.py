"""Lists of titles beside the answers: from the log alone, and answers that know the catalogue.

The weights of `fused` and `prior_only` are fitted on the examples of alignment, whose window lies
before that of the test. SFT never saw them. Alignment did, so the policy takes the weights of the
student after SFT.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taiji.config import EvaluateSection
from taiji.data.item_text import item_texts
from taiji.evaluation.figures import paired_figures, writer_figures
from taiji.language.encode import TextEncoder
from taiji.lists.answers import (
    PRIOR_ONLY,
    Asked,
    Told,
    choose_candidates,
    fit_fusions,
    judge_lists,
    model_lists,
    prior_lists,
)
from taiji.lists.fusion import Fusion
from taiji.lists.priors import TitlePriors
from taiji.lists.title_lists import Titles
from taiji.schema import LISTINGS, TRACKS
from taiji.stages.parts.asked_models import Respondent
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext

_CALIBRATED_BY = {"policy": "sft"}

Row = dict[str, Any]


class Shelf:
    """The catalogue, the log that sold it, and what was learnt of how to weigh opinions.

    Attributes:
        fusions: What was fitted, by model (`prior_only` for none) and track.
    """

    def __init__(
        self,
        logs: Constructed,
        catalogue: pa.Table,
        encoder: TextEncoder,
        *,
        candidates: int,
        calibration: pa.Table,
    ) -> None:
        """Count what is needed for the calibration.

        Args:
            logs: The log that sold the titles.
            catalogue: Rows of `schema.ITEMS`, one for each title.
            encoder: Of answers and titles.
            candidates: Titles of which a model is asked how likely they are; 0 = none is asked.
            calibration: Examples on which weights are fitted.
        """
        self._logs, self._catalogue, self._encoder = logs, catalogue, encoder
        self._candidates = candidates
        self._titles = Titles(catalogue)
        self._asked_of_calibration = self.ask(calibration) if candidates else None
        self.fusions: dict[str, dict[str, Fusion]] = {}

    def ask(self, examples: pa.Table) -> Asked:
        """Examples with a log that has not counted anything from the earliest cut-off on."""
        before = pc.min(examples["cutoff"]).as_py()
        log, items = self._logs.interactions, self._logs.items
        return Asked(examples, TitlePriors(log, items, self._titles, before))

    def judge(
        self, tests: pa.Table, respondents: Mapping[str, Respondent], texts: Mapping[str, list[Row]]
    ) -> pa.Table:
        """Judge all lists on the test examples; rows of `LISTINGS`.

        Args:
            tests: The examples that judge.
            respondents: Models by name; with `policy` there must be `sft`.
            texts: What each model to be judged wrote for the tests.
        """
        asked = self.ask(tests)
        if self._candidates:
            self.fusions[PRIOR_ONLY] = self._fit(None)
        priors = prior_lists(self._titles, self.fusions.get(PRIOR_ONLY, {}))
        rows = judge_lists(priors, asked, self._titles, self._logs.items)
        for name, written in texts.items() if self._candidates else ():
            judge = _CALIBRATED_BY.get(name, name)
            if judge not in self.fusions:
                self.fusions[judge] = self._fit(respondents[judge])
            told = self._told(respondents[name], "test", asked, written)
            lists_of = model_lists(self._titles, told, self.fusions[judge])
            listed = judge_lists(lists_of, asked, self._titles, self._logs.items)
            rows += [row | {"list": f"{name}/{row['list']}"} for row in listed]
        return pa.Table.from_pylist(rows, LISTINGS)

    def _fit(self, respondent: Respondent | None) -> dict[str, Fusion]:
        asked = self._asked_of_calibration
        assert asked is not None, "nothing is fitted unless models are asked"
        told = None
        if respondent is not None:
            written = respondent.texts("calibration", asked.examples.to_pylist())
            told = self._told(respondent, "calibration", asked, written)
        return fit_fusions(asked, told, self._titles, self._logs.items)

    def _told(
        self, respondent: Respondent, what: str, asked: Asked, written: Sequence[Row]
    ) -> Told:
        answers_ED = self._encoder.encode([row["answer"] for row in written])
        cosine_EC = answers_ED @ self._vectors().T
        candidates: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * len(written)
        for row, moment in asked.priors.moments(asked.examples):
            candidates[row] = choose_candidates(moment, cosine_EC[row], self._candidates)
        examples = asked.examples.to_pylist()
        shown = f"{what}-{self._candidates}-of-{len(self._titles)}"
        opinions = respondent.opinions(shown, examples, written, candidates, self._catalogue)
        return Told(cosine_EC, opinions)

    def _vectors(self) -> NDArray[np.float32]:
        return self._encoder.encode(item_texts(self._catalogue))


def build_shelf(
    ctx: StageContext, logs: Constructed, catalogue: pa.Table, encoder: TextEncoder
) -> Shelf:
    """The shelf of a run; models are asked if the recipe names a number of candidates."""
    earlier = logs.examples("rl")
    return Shelf(
        logs,
        catalogue,
        encoder,
        candidates=ctx.recipe.evaluate.candidates,
        calibration=earlier.slice(0, ctx.recipe.evaluate.calibration),
    )


def list_figures(
    listings: pa.Table, shelf: Shelf, section: EvaluateSection, seed: int
) -> dict[str, Any]:
    """Figures of every list and track, what models add, and the weights that were fitted."""
    settings: dict[str, Any] = {
        "hit_rate_at": section.hit_rate_at,
        "resamples": section.bootstrap,
        "seed": seed,
    }
    names = list(dict.fromkeys(listings["list"].to_pylist()))
    parts = {(name, track): _part(listings, name, track) for name in names for track in TRACKS}
    parts = {key: part for key, part in parts.items() if part.num_rows}
    lists: dict[str, dict[str, Any]] = {name: {} for name in names}
    for (name, track), part in parts.items():
        lists[name][track] = writer_figures(part, **settings)
    differences = [
        {
            "of": of,
            "over": over,
            "track": track,
            "metrics": paired_figures(parts[of, track], parts[over, track], **settings),
        }
        for of, over in _pairs(names)
        for track in ("novel", "any")
        if {(of, track), (over, track)} <= parts.keys()
    ]
    weights = {
        name: {
            track: {
                "choices": fusion.num_choices,
                "weights": dict(zip(fusion.names, fusion.weights_F.tolist(), strict=True)),
            }
            for track, fusion in by_track.items()
        }
        for name, by_track in shelf.fusions.items()
    }
    return {"lists": lists, "list_differences": differences, "fusions": weights}


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """What a model adds to the log, and its likelihood to the words of its answer."""
    models = [name.removesuffix("/fused") for name in names if name.endswith("/fused")]
    pairs = [(f"{model}/fused", PRIOR_ONLY) for model in models]
    pairs += [(f"{model}/reranked", f"{model}/nearest") for model in models]
    return pairs + ([(PRIOR_ONLY, "popular_new")] if PRIOR_ONLY in names else [])


def _part(listings: pa.Table, name: str, track: str) -> pa.Table:
    return listings.filter(
        pc.and_(pc.equal(listings["list"], name), pc.equal(listings["track"], track))
    )
