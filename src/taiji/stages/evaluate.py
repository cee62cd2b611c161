"""Judge what the run achieved: the paper's metrics for each model and each trivial answer."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from taiji.alignment.rewards.grounding import Grounder
from taiji.config import Recipe
from taiji.data.catalogue import coverage
from taiji.data.item_text import item_texts
from taiji.evaluation.baselines import BASELINES, baseline_answers
from taiji.evaluation.figures import paired_figures, writer_figures
from taiji.evaluation.gold import ALARM, gold_figures
from taiji.evaluation.judge import Judge, Writer, best_of
from taiji.evaluation.suspicious import suspicious_answers
from taiji.evaluation.upstream import align_figures, distill_figures, refine_figures
from taiji.language.completions import answer_lines
from taiji.language.encode import SentenceEncoder, TextEncoder
from taiji.language.encoder_caches import CachedEncoder
from taiji.ranking.ctcvr_scorer import CtcvrScorer
from taiji.ranking.gradient_boosting import load_boosted
from taiji.ranking.train import load_ranker
from taiji.schema import CANDIDATES, JUDGEMENTS, LISTINGS, ROLLOUTS, SCORED, TEXTS, TRACKS
from taiji.stages.parts.asked_models import asked_models
from taiji.stages.parts.constructed import Constructed, contexts_of
from taiji.stages.parts.context import StageContext, Summary
from taiji.stages.parts.legible import read_titles, unreadable_titles
from taiji.stages.parts.preferences import ladder
from taiji.stages.parts.title_lists import list_figures, list_judge
from taiji.store.files import read_json, read_jsonl, read_parquet, write_json, write_parquet

logger = logging.getLogger(__name__)

_MEASURED_BY = {"reward_ranker": "simulate", "ranking": "rank", "abtest": "abtest"}


def evaluate(ctx: StageContext) -> Summary:
    """Write judgements.parquet (one row per answer and track) and metrics.json (all figures).

    Raises:
        DataError: There is no test example.
    """
    logs = Constructed(ctx.inputs["construct"])
    tests = logs.targeted_examples("test")
    catalogue = logs.catalogue(tests, ctx.recipe.encoder.catalogue_titles)
    plain = SentenceEncoder(ctx.recipe.encoder.model, ctx.recipe.encoder.batch_size)
    encoder = CachedEncoder(plain)
    judge = build_judge(ctx, logs, catalogue, tests, encoder)
    further = ctx.recipe.evaluate.models
    asked = asked_models(ctx, further)
    texts = _texts(ctx, tests)
    models = list(texts)
    texts |= {name: asked[name].texts("test", tests) for name in further}
    count = ctx.recipe.student.answers
    written = [as_writer(name, rows, count) for name, rows in texts.items()]
    writers = [*written, *baseline_writers(logs, tests)]
    judged = []
    for done, writer in enumerate(writers, start=1):
        judged.append(judge.judge(writer, tests))
        ctx.progress(done, len(writers), f"judged {writer.name}")
    lists = list_judgements(judge, tests, texts, count) if count > 1 else {}
    judgements = pa.concat_tables([*judged, *lists.values()])
    write_parquet(judgements, ctx.out / "judgements.parquet", JUDGEMENTS)
    of_lists = list_judge(ctx, logs, catalogue, encoder, plain)
    listings = of_lists.judge(tests, asked, texts)
    write_parquet(listings, ctx.out / "listings.parquet", LISTINGS)
    metrics = {
        "hit_rate_at": list(ctx.recipe.evaluate.hit_rate_at),
        "catalogue": catalogue_figures(catalogue, logs.items, tests),
        "writers": _writer_metrics(ctx.recipe, judgements, [*(w.name for w in writers), *lists]),
        "differences": _differences(ctx.recipe, judgements, models),
        "gold": _gold(ctx, judgements, models),
        **list_figures(listings, of_lists, ctx.recipe.evaluate, ctx.recipe.seed),
        "suspicious": _suspicious(ctx, judgements, logs.items, list(texts)),
        **_upstream(ctx),
        "contents": logs.contents.to_json(),
        "titles": _titles(ctx.recipe, catalogue),
    }
    write_json(metrics, ctx.out / "metrics.json")
    return _summary(metrics)


def _titles(recipe: Recipe, catalogue: pa.Table) -> dict[str, Any] | None:
    """How the models read the titles, and what is to be said of that; None for Latin letters."""
    found = read_titles(recipe, catalogue["title"].to_pylist())
    if found is None:
        return None
    return asdict(found) | {"problems": [str(one) for one in unreadable_titles(recipe, found)]}


def build_judge(
    ctx: StageContext,
    logs: Constructed,
    catalogue: pa.Table,
    tests: pa.Table,
    encoder: TextEncoder,
) -> Judge:
    """The judge of a run: its catalogue, its grounding, its reward ranker."""
    asof, contexts = logs.as_of, contexts_of(tests)
    simulated = ctx.inputs.get("simulate")
    scorer = gold = None
    if simulated is not None:
        scorer = CtcvrScorer(load_ranker(simulated / "ranker"), asof, contexts)
    if simulated is not None and (simulated / "gold").is_dir():
        gold = CtcvrScorer(load_boosted(simulated / "gold"), asof, contexts)
    rungs = ladder(ctx.recipe.align.rewards)
    grounder = Grounder(logs.items, encoder, catalogue=catalogue, ladder=rungs)
    return Judge(logs.items, catalogue, encoder, grounder, scorer, gold)


def _texts(ctx: StageContext, tests: pa.Table) -> dict[str, pa.Table]:
    """What each language model wrote for the test examples, as far as it was asked to."""
    texts = read_parquet(ctx.inputs["infer"] / "texts.parquet", TEXTS)
    found: dict[str, pa.Table] = {}
    for model in texts["model"].unique().to_pylist():
        written = texts.filter(pc.equal(texts["model"], model))
        places = pc.index_in(tests["example_id"], value_set=written["example_id"])
        if not places.null_count:
            found[model] = written.take(places)
    return found


def as_writer(name: str, texts: pa.Table, count: int = 1, place: int = 0) -> Writer:
    """A model by its rows of `schema.TEXTS`: what it answers in one place of its lists.

    Args:
        name: Of the model.
        texts: Its rows.
        count: Items that an answer names.
        place: Which of them, the likeliest first.
    """
    lists = [answer_lines(answer, count) for answer in texts["answer"].to_pylist()]
    answers = [lines[place] if place < len(lines) else "" for lines in lists]
    return Writer(name, answers, texts["completion"].to_pylist())


def list_judgements(
    judge: Judge, tests: pa.Table, texts: dict[str, pa.Table], count: int
) -> dict[str, pa.Table]:
    """The best line of each list, by the name `<model>, best of <count>`."""
    return {
        (best := f"{name}, best of {count}"): best_of(
            [judge.judge(as_writer(name, rows, count, n), tests) for n in range(count)], best
        )
        for name, rows in texts.items()
    }


def baseline_writers(logs: Constructed, tests: pa.Table) -> list[Writer]:
    """The trivial answers, written in the form in which a model would write them."""
    texts = dict(zip(logs.items["item_id"].to_pylist(), item_texts(logs.items), strict=True))
    answers = baseline_answers(logs.taken, tests)
    return [
        Writer(name, ["" if item is None else texts[item] for item in answers[name]])
        for name in BASELINES
    ]


def _writer_metrics(recipe: Recipe, judgements: pa.Table, writers: Sequence[str]) -> dict[str, Any]:
    return {
        writer: {
            "kind": "baseline" if writer in BASELINES else "model",
            "tracks": {
                track: writer_figures(
                    _part(judgements, writer, track),
                    hit_rate_at=recipe.evaluate.hit_rate_at,
                    resamples=recipe.evaluate.bootstrap,
                    seed=recipe.seed,
                )
                for track in TRACKS
            },
        }
        for writer in writers
    }


def _differences(
    recipe: Recipe, judgements: pa.Table, models: Sequence[str]
) -> list[dict[str, Any]]:
    """Each model over the one before it, and the last over the hardest trivial answer."""
    pairs = [(after, before) for before, after in pairwise(models)]
    pairs.extend((model, "most_popular_new") for model in models[-1:])
    return [
        {
            "of": of,
            "over": over,
            "metrics": paired_figures(
                _part(judgements, of, "novel"),
                _part(judgements, over, "novel"),
                hit_rate_at=recipe.evaluate.hit_rate_at,
                resamples=recipe.evaluate.bootstrap,
                seed=recipe.seed,
            ),
        }
        for of, over in pairs
    ]


def _gold(ctx: StageContext, judgements: pa.Table, models: Sequence[str]) -> dict[str, Any] | None:
    """The models' answers under the reward ranker and the gold judge; None without the latter."""
    if judgements["gold_ctcvr"].null_count:
        return None
    figures = gold_figures(
        judgements, models, resamples=ctx.recipe.evaluate.bootstrap, seed=ctx.recipe.seed
    )
    for change in figures["changes"]:
        if change["verdict"] == ALARM:
            logger.warning(
                "evaluate: from %s to %s the reward rises and the gold judge's opinion falls: "
                "the reward is being gamed",
                change["over"],
                change["of"],
            )
    return figures


def _suspicious(
    ctx: StageContext, judgements: pa.Table, items: pa.Table, models: Sequence[str]
) -> dict[str, Any]:
    """How often each model answers titles that look like structure or like an order."""
    parts = {model: _part(judgements, model, "any") for model in models}
    found = suspicious_answers(
        items, parts, resamples=ctx.recipe.evaluate.bootstrap, seed=ctx.recipe.seed
    )
    for model, figures in found["writers"].items():
        if figures["flagged"]:
            logger.warning(
                "evaluate: %s answers suspicious titles in %.1f %% of examples, and they are right "
                "in %.1f %%: look at them in judgements.parquet",
                model,
                100 * figures["answered"]["value"],
                100 * figures["true"]["value"],
            )
    return found


def _part(judgements: pa.Table, writer: str, track: str) -> pa.Table:
    return judgements.filter(
        pc.and_(pc.equal(judgements["writer"], writer), pc.equal(judgements["track"], track))
    )


def catalogue_figures(catalogue: pa.Table, items: pa.Table, tests: pa.Table) -> dict[str, Any]:
    """Its size, and which share of the truths it holds."""
    titles = dict(zip(items["item_id"].to_pylist(), items["title"].to_pylist(), strict=True))
    figures: dict[str, Any] = {"size": catalogue.num_rows}
    for track, column in TRACKS.items():
        targets = [titles[item] for item in tests[column].drop_null().to_pylist()]
        figures[f"targets_{track}"] = len(targets)
        figures[f"coverage_{track}"] = coverage(catalogue, targets)
    return figures


def _upstream(ctx: StageContext) -> dict[str, Any]:
    inputs = ctx.inputs
    return {
        "distill": distill_figures(
            read_parquet(inputs["distill"] / "candidates.parquet", CANDIDATES),
            ctx.recipe.distill.mode,
        ),
        "refine": refine_figures(
            read_parquet(inputs["refine"] / "scored.parquet", SCORED),
            read_json(inputs["refine"] / "threshold.json"),
        ),
        "align": align_figures(
            ctx.recipe.align.weights.scheme,
            read_jsonl(inputs["align"] / "metrics.jsonl"),
            read_parquet(inputs["align"] / "rollouts.parquet", ROLLOUTS),
        ),
        **{
            name: read_json(inputs[stage] / "metrics.json") if stage in inputs else None
            for name, stage in _MEASURED_BY.items()
        },
    }


def _summary(metrics: Mapping[str, Any]) -> Summary:
    """Per writer, the largest hit rate on novel titles, and the category of the next basket."""
    shown = {"novel": f"title_hit_rate_at_{max(metrics['hit_rate_at'])}", "any": "category_l1"}
    return {
        f"{writer}_{track}_{key}": round(figures["tracks"][track][key]["value"], 4)
        for writer, figures in metrics["writers"].items()
        for track, key in shown.items()
        if key in figures["tracks"][track]
    }
