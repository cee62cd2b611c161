"""Lists of titles beside the answers: from the log alone, and answers that know the catalogue.

The weights of `fused` and `prior_only` are fitted on the examples of alignment, whose window lies
before that of the test. SFT never saw them. Alignment did, so the policy takes the weights of the
student after SFT.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taiji.alignment.rewards.head import Heads, load_heads, prompt_text
from taiji.arrays import Array, Vectors
from taiji.config import POLICY, SFT, EvaluateSection
from taiji.data.item_text import item_texts
from taiji.evaluation.figures import paired_figures, writer_figures
from taiji.language.completions import first_answer
from taiji.language.encode import TextEncoder
from taiji.language.text_head import HeadTexts
from taiji.lists.answers import (
    PRIOR_ONLY,
    Cohort,
    ModelSignals,
    choose_candidates,
    fit_fusions,
    judge_lists,
    model_lists,
    prior_lists,
)
from taiji.lists.fusion import Fusion
from taiji.lists.likelihood import title_openings
from taiji.lists.priors import TitlePriors
from taiji.lists.title_lists import Titles
from taiji.schema import LISTINGS, TRACKS
from taiji.stages.parts.asked_models import AskedModel
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext
from taiji.stages.parts.guided_lists import GuidedLists

_CALIBRATED_BY: dict[str, str] = {POLICY: SFT}


@dataclass(frozen=True)
class HeadReaders:
    """Trained heads, and who makes vectors of what they read.

    Attributes:
        heads: Of the stage `head`.
        encoder: Of prompts, chains and answers; nothing of them is kept on disk.
    """

    heads: Heads
    encoder: TextEncoder

    def log_shares(self, examples: pa.Table, written: pa.Table, titles_CD: Vectors) -> Array:
        """log P of each title for each example, by heads that do not know its user; E x C."""
        encode = self.encoder.encode
        texts = HeadTexts(
            encode([prompt_text(row) for row in examples.to_pylist()]),
            encode(written["cot"].to_pylist()),
            encode(written["answer"].to_pylist()),
            pc.equal(written["status"], "ok").to_numpy(zero_copy_only=False),
        )
        return self.heads.log_shares(examples["user_id"].to_pylist(), texts, titles_CD)


class ListJudge:
    """Judges lists of the catalogue's titles, and fits how a model's signals are weighed.

    Attributes:
        fusions: What was fitted, by model (`prior_only` for none) and track.
    """

    def __init__(
        self,
        logs: Constructed,
        catalogue: pa.Table,
        encoder: TextEncoder,
        *,
        answers: int,
        candidates: int,
        calibration: pa.Table,
        heads: "HeadReaders | None" = None,
        guided: GuidedLists | None = None,
    ) -> None:
        """Count what is needed for the calibration.

        Args:
            logs: The log that sold the titles.
            catalogue: Rows of `schema.ITEMS`, one for each title.
            encoder: Of answers and titles.
            answers: How many items a model is asked for; the first is judged.
            candidates: Titles of which a model is asked how likely they are; 0 = none is asked.
            calibration: Examples on which weights are fitted.
            heads: Trained heads, where the run has them.
            guided: Beams that a scorer guides, where the recipe asks for them.
        """
        self._logs, self._catalogue, self._encoder = logs, catalogue, encoder
        self._candidates, self._heads, self._guided = candidates, heads, guided
        self._answers = answers
        self._titles = Titles(catalogue)
        self._calibration = self._cohort(calibration) if candidates else None
        self.fusions: dict[str, dict[str, Fusion]] = {}

    def judge(
        self, tests: pa.Table, models: Mapping[str, AskedModel], texts: Mapping[str, pa.Table]
    ) -> pa.Table:
        """Judge all lists on the test examples; rows of `LISTINGS`.

        Args:
            tests: The examples that judge.
            models: By name; with the policy there must be the student after SFT.
            texts: What each model to be judged wrote for the tests; rows of `TEXTS`.
        """
        cohort = self._cohort(tests)
        if self._candidates:
            self.fusions[PRIOR_ONLY] = self._fit(None)
        alone_EC = None if self._guided is None else self._guided.alone(tests)
        priors = prior_lists(self._titles, self.fusions.get(PRIOR_ONLY, {}), alone_EC)
        rows = judge_lists(priors, cohort, self._titles, self._logs.items)
        for name, written in texts.items() if self._candidates else ():
            weighed_by = _CALIBRATED_BY.get(name, name)
            if weighed_by not in self.fusions:
                self._fit_model(weighed_by, models[weighed_by])
            signals = self._signals(models[name], "test", cohort, written)
            if self._guided is not None:
                found = self._guided.survivors(models[name], tests, written)
                signals = replace(signals, guided=found)
            with_head = self.fusions.get(_with_head(weighed_by))
            lists_of = model_lists(self._titles, signals, self.fusions[weighed_by], with_head)
            listed = judge_lists(lists_of, cohort, self._titles, self._logs.items)
            rows += [row | {"list": f"{name}/{row['list']}"} for row in listed]
        return pa.Table.from_pylist(rows, LISTINGS)

    def _cohort(self, examples: pa.Table) -> Cohort:
        """Examples with a log that has not counted anything from the earliest cut-off on."""
        before = pc.min(examples["cutoff"]).as_py()
        log, items = self._logs.taken, self._logs.items
        return Cohort(examples, TitlePriors(log, items, self._titles, before))

    def _fit_model(self, name: str, model: AskedModel) -> None:
        """Weights without any head's opinion, and with it where there are heads."""
        cohort = self._calibrating()
        written = model.texts("calibration", cohort.examples)
        signals = self._signals(model, "calibration", cohort, written)
        self.fusions[name] = self._fit(signals.without_head())
        if signals.head_EC is not None:
            self.fusions[_with_head(name)] = self._fit(signals)

    def _fit(self, signals: ModelSignals | None) -> dict[str, Fusion]:
        return fit_fusions(self._calibrating(), signals, self._titles, self._logs.items)

    def _calibrating(self) -> Cohort:
        assert self._calibration is not None, "nothing is fitted unless models are asked"
        return self._calibration

    def _signals(
        self, model: AskedModel, what: str, cohort: Cohort, written: pa.Table
    ) -> ModelSignals:
        answers_ED = self._encoder.encode(
            [first_answer(answer, self._answers) for answer in written["answer"].to_pylist()]
        )
        titles_CD = self._encoder.encode(item_texts(self._catalogue))
        cosine_EC = answers_ED @ titles_CD.T
        candidates: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * written.num_rows
        for row, moment in cohort.priors.moments(cohort.examples):
            candidates[row] = choose_candidates(moment, cosine_EC[row], self._candidates)
        shown = f"{what} {self._candidates} of {len(self._titles)}"
        likelihoods = model.likelihoods(
            shown,
            cohort.examples,
            written,
            candidates,
            title_openings(self._catalogue, self._answers),
        )
        head_EC = None
        if self._heads is not None:
            head_EC = self._heads.log_shares(cohort.examples, written, titles_CD)
        return ModelSignals(cosine_EC, likelihoods, head_EC)


def list_judge(
    ctx: StageContext,
    logs: Constructed,
    catalogue: pa.Table,
    encoder: TextEncoder,
    plain: TextEncoder,
) -> ListJudge:
    """The judge of a run's lists; models are asked if the recipe names a number of candidates.

    Args:
        ctx: Of the stage.
        logs: The log.
        catalogue: Rows of `schema.ITEMS`, one for each title.
        encoder: Of answers and titles.
        plain: The same, keeping nothing on disk.
    """
    heads = None
    if "head" in ctx.inputs:
        heads = HeadReaders(load_heads(ctx.inputs["head"] / "heads"), plain)
    recipe, section = ctx.recipe, ctx.recipe.evaluate.guided
    guided = None
    if section is not None:
        asked = {"answers": recipe.student.answers, "seed": recipe.seed}
        guided = GuidedLists(logs, catalogue, encoder, section, **asked)
    return ListJudge(
        logs,
        catalogue,
        encoder,
        answers=recipe.student.answers,
        candidates=recipe.evaluate.candidates,
        calibration=logs.examples("rl").slice(0, recipe.evaluate.calibration),
        heads=heads,
        guided=guided,
    )


def list_figures(
    listings: pa.Table, judge: ListJudge, section: EvaluateSection, seed: int
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
        for name, by_track in judge.fusions.items()
    }
    return {"lists": lists, "list_differences": differences, "fusions": weights}


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """What a model adds to the log, and its likelihood to the words of its answer."""
    models = [name.removesuffix("/fused") for name in names if name.endswith("/fused")]
    pairs = [(f"{model}/fused", PRIOR_ONLY) for model in models]
    pairs += [(f"{model}/reranked", f"{model}/nearest") for model in models]
    with_head = [model for model in models if f"{model}/fused_head" in names]
    pairs += [(f"{model}/fused_head", f"{model}/fused") for model in with_head]
    guided = [f"{model}/guided" for model in models if f"{model}/guided" in names]
    pairs += [
        (of, over) for of in guided for over in (f"{of.removesuffix('guided')}reranked", "paths")
    ]
    return pairs + ([(PRIOR_ONLY, "popular_new")] if PRIOR_ONLY in names else [])


def _part(listings: pa.Table, name: str, track: str) -> pa.Table:
    return listings.filter(
        pc.and_(pc.equal(listings["list"], name), pc.equal(listings["track"], track))
    )


def _with_head(name: str) -> str:
    """The name of a model's weights that count a head's opinion too."""
    return f"{name}, head"
