"""Judge what the run achieved: the paper's metrics for each model and each trivial answer."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from taiji.alignment.grounding import Grounder
from taiji.artifacts import read_json, read_jsonl, read_parquet, write_json, write_parquet
from taiji.config import Recipe
from taiji.data.splits import Calendar
from taiji.data.text import item_text
from taiji.errors import DataError
from taiji.evaluation.baselines import BASELINES, baseline_answers
from taiji.evaluation.catalogue import coverage, popular_items
from taiji.evaluation.figures import paired_figures, writer_figures
from taiji.evaluation.judge import Judge, Writer
from taiji.evaluation.judgements import JUDGEMENTS, TRACKS
from taiji.evaluation.upstream import align_figures, distill_figures, refine_figures
from taiji.language.embedding_cache import CachedEncoder
from taiji.language.encode import SentenceEncoder
from taiji.ranking.pairs import AsOf
from taiji.ranking.scorer import CtcvrScorer
from taiji.ranking.train import load_ranker
from taiji.schema import (
    CANDIDATES,
    EXAMPLES,
    INTERACTIONS,
    ITEMS,
    ROLLOUTS,
    SCORED,
    TEXTS,
    USERS,
)
from taiji.stages.context import StageContext, Summary
from taiji.stages.preference import ladder

_CONSTRUCT = {
    "users": USERS,
    "items": ITEMS,
    "interactions": INTERACTIONS,
    "examples": EXAMPLES,
}


def evaluate(ctx: StageContext) -> Summary:
    """Write judgements.parquet (one row per answer and track) and metrics.json (all figures).

    Raises:
        DataError: There is no test example.
    """
    logs = {
        name: read_parquet(ctx.inputs["construct"] / f"{name}.parquet", schema)
        for name, schema in _CONSTRUCT.items()
    }
    tests = logs["examples"].filter(pc.equal(logs["examples"]["split"], "test"))
    tests = tests.filter(pc.is_valid(tests["target_item_id"]))
    if not tests.num_rows:
        raise DataError("construct/examples.parquet: no test example: raise data.num_test")
    catalogue = popular_items(
        logs["items"],
        logs["interactions"],
        before=pc.min(tests["cutoff"]).as_py(),
        size=ctx.recipe.encoder.catalogue_titles,
    )
    judge = _build_judge(ctx, logs, catalogue, tests)
    models = _models(ctx, tests)
    writers = [*models, *_baselines(logs, tests)]
    judged = []
    for done, writer in enumerate(writers, start=1):
        judged.append(judge.judge(writer, tests))
        ctx.progress(done, len(writers), f"judged {writer.name}")
    judgements = pa.concat_tables(judged)
    write_parquet(judgements, ctx.out / "judgements.parquet", JUDGEMENTS)
    metrics = {
        "hit_rate_at": list(ctx.recipe.evaluate.hit_rate_at),
        "catalogue": _catalogue_figures(catalogue, logs["items"], tests),
        "writers": _writer_metrics(ctx.recipe, judgements, [w.name for w in writers]),
        "differences": _differences(ctx.recipe, judgements, [m.name for m in models]),
        **_upstream(ctx),
    }
    write_json(metrics, ctx.out / "metrics.json")
    return _summary(metrics)


def _build_judge(
    ctx: StageContext, logs: Mapping[str, pa.Table], catalogue: pa.Table, tests: pa.Table
) -> Judge:
    encoder = CachedEncoder(
        SentenceEncoder(ctx.recipe.encoder.model, ctx.recipe.encoder.batch_size)
    )
    asof = AsOf(
        users=logs["users"],
        items=logs["items"],
        interactions=logs["interactions"],
        calendar=Calendar.read(ctx.inputs["construct"] / "windows.json"),
    )
    contexts = {
        row["example_id"]: (row["user_id"], row["cutoff"])
        for row in tests.select(["example_id", "user_id", "cutoff"]).to_pylist()
    }
    scorer = CtcvrScorer(load_ranker(ctx.inputs["simulate"] / "ranker"), asof, contexts)
    rungs = ladder(ctx.recipe.align.rewards)
    grounder = Grounder(logs["items"], encoder, catalogue=catalogue, ladder=rungs)
    return Judge(logs["items"], catalogue, encoder, grounder, scorer)


def _models(ctx: StageContext, tests: pa.Table) -> list[Writer]:
    """What each language model wrote for the test examples, as far as it was asked to."""
    texts = read_parquet(ctx.inputs["infer"] / "texts.parquet", TEXTS).to_pylist()
    written: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in texts:
        written[row["model"]][row["example_id"]] = row
    example_ids = tests["example_id"].to_pylist()
    writers = []
    for model, by_example in written.items():
        if by_example.keys() >= set(example_ids):
            rows = [by_example[example_id] for example_id in example_ids]
            answers, completions = (
                [row[name] for row in rows] for name in ("answer", "completion")
            )
            writers.append(Writer(model, answers, completions))
    return writers


def _baselines(logs: Mapping[str, pa.Table], tests: pa.Table) -> list[Writer]:
    """The trivial answers, written in the form in which a model would write them."""
    texts = {
        row["item_id"]: item_text(
            row["title"], row["category_l1"], row["category_l2"], row["category_l3"]
        )
        for row in logs["items"].to_pylist()
    }
    answers = baseline_answers(logs["interactions"], tests)
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


def _part(judgements: pa.Table, writer: str, track: str) -> pa.Table:
    return judgements.filter(
        pc.and_(pc.equal(judgements["writer"], writer), pc.equal(judgements["track"], track))
    )


def _catalogue_figures(catalogue: pa.Table, items: pa.Table, tests: pa.Table) -> dict[str, Any]:
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
            read_parquet(inputs["distill"] / "candidates.parquet", CANDIDATES)
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
        "reward_ranker": read_json(inputs["simulate"] / "metrics.json"),
        "ranking": read_json(inputs["rank"] / "metrics.json"),
    }


def _summary(metrics: Mapping[str, Any]) -> Summary:
    """The largest hit rate on novel titles, per writer."""
    key = f"title_hit_rate_at_{max(metrics['hit_rate_at'])}"
    return {
        f"{writer}_novel_{key}": round(figures["tracks"]["novel"][key]["value"], 4)
        for writer, figures in metrics["writers"].items()
        if key in figures["tracks"]["novel"]
    }
