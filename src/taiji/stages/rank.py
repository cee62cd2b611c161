"""Stage 4, `rank`: the ranking model with and without the language features.

Each arm trains on the weeks after all training of language models, with features written
before those weeks, and is judged on the weeks after, with features written before them. All
users train and are judged; those without features carry the code of the missing and an empty
borrowed sequence, so the arms differ in nothing else.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taiji.artifacts import read_json, read_parquet, write_json, write_parquet
from taiji.data.splits import Calendar
from taiji.evaluation.ranking_figures import Exposed, Outcome, arm_figures
from taiji.ranking.inputs import Arm, LanguageFeatures
from taiji.ranking.pairs import AsOf, Pairs
from taiji.ranking.train import Labels, Predictions, fit_ranker, predict
from taiji.schema import INTERACTIONS, ITEMS, PREDICTIONS, USER_FEATURES, USERS
from taiji.stages.context import StageContext, Summary
from taiji.stages.labels import labelled_exposures

RESAMPLES = 200
_DECIMALS = 5

Outcomes = dict[str, list[Outcome]]


def rank(ctx: StageContext) -> Summary:
    """Write predictions.parquet and metrics.json.

    Raises:
        DataError: There are no exposures, or too few conversions to learn from.
    """
    construct, recipe = ctx.inputs["construct"], ctx.recipe
    calendar = Calendar.read(construct / "windows.json")
    asof = AsOf(
        users=read_parquet(construct / "users.parquet", USERS),
        items=read_parquet(construct / "items.parquet", ITEMS),
        interactions=read_parquet(construct / "interactions.parquet", INTERACTIONS),
        calendar=calendar,
    )
    exposures = labelled_exposures(construct)
    train, test = (calendar.window(name).rows(exposures) for name in ("ranker", "test"))
    language = _language_features(ctx, asof)
    test_pairs = asof.features(test)
    covered = language["rank_test"].rows(test_pairs.user_ids) >= 0
    outcomes: Outcomes = {arm: [] for arm in recipe.rank.arms}
    tables = []
    for arm, seed, predictions in _compare(ctx, asof.features(train), train, test_pairs, language):
        outcomes[arm].append(Outcome(predictions.ctr, predictions.ctcvr))
        tables.append(_prediction_rows(arm, seed, test, covered, predictions))
    write_parquet(pa.concat_tables(tables), ctx.out / "predictions.parquet", PREDICTIONS)
    metrics = _judge(outcomes, test, covered, recipe.seed)
    write_json(metrics, ctx.out / "metrics.json")
    return _summary(metrics)


def _language_features(ctx: StageContext, asof: AsOf) -> dict[str, LanguageFeatures]:
    """Features of both splits, of one width."""
    table = read_parquet(ctx.inputs["features"] / "features.parquet", USER_FEATURES)
    bits = int(read_json(ctx.inputs["features"] / "codebook.json")["bits"])
    longest = pc.max(pc.list_value_length(table["neighbour_item_ids"])).as_py()
    return {
        split: LanguageFeatures.from_table(
            table.filter(pc.equal(table["split"], split)),
            asof.item_ids,
            num_codes=1 << bits,
            neighbour_items=int(longest or 0),
        )
        for split in ("rank_train", "rank_test")
    }


def _compare(
    ctx: StageContext,
    pairs: Pairs,
    train: pa.Table,
    test_pairs: Pairs,
    language: dict[str, LanguageFeatures],
) -> Iterator[tuple[Arm, int, Predictions]]:
    """Train and predict each arm with each seed; the arms of one seed share their batches."""
    section = ctx.recipe.rank
    labels = Labels.from_exposures(train)
    fits = [(arm, ctx.recipe.seed + n) for n in range(section.seeds) for arm in section.arms]
    for done, (arm, seed) in enumerate(fits):
        ctx.progress(done, len(fits), f"ranking model, arm {arm}")
        seen, later = (language[split].for_arm(arm) for split in ("rank_train", "rank_test"))
        ranker = fit_ranker(pairs, labels, ctx.recipe.ranker, seed=seed, language=seen)
        yield arm, seed, predict(ranker, test_pairs, later)
    ctx.progress(len(fits), len(fits), "judging")


def _prediction_rows(
    arm: Arm, seed: int, test: pa.Table, covered: Any, predictions: Predictions
) -> pa.Table:
    columns = {name: test[name] for name in ("user_id", "item_id", "ts", "click", "conversion")}
    columns |= {
        "arm": pa.repeat(pa.scalar(arm), test.num_rows),
        "seed": pa.repeat(pa.scalar(seed, pa.int32()), test.num_rows),
        "covered": pa.array(covered),
        "ctr": pa.array(predictions.ctr.astype(np.float32)),
        "ctcvr": pa.array(predictions.ctcvr.astype(np.float32)),
    }
    return pa.table(columns).select(PREDICTIONS.names).cast(PREDICTIONS)


def _judge(outcomes: Outcomes, test: pa.Table, covered: Any, seed: int) -> dict[str, Any]:
    """All exposures at the top level, those of users with features under `covered`."""
    everyone = np.ones(test.num_rows, dtype=bool)
    figures = {
        name: _figures_of(outcomes, test, rows, seed)
        for name, rows in (("all", everyone), ("covered", covered))
        if rows.any()
    }
    return {**figures["all"], "covered": figures.get("covered")}


def _figures_of(outcomes: Outcomes, test: pa.Table, rows: Any, seed: int) -> dict[str, Any]:
    labels = Labels.from_exposures(test.filter(rows))
    users = test["user_id"].to_numpy(zero_copy_only=False)[rows]
    both = (labels.click * labels.conversion).astype(np.float64)
    exposed = Exposed(users, labels.click.astype(np.float64), both)
    part = {
        arm: [Outcome(one.ctr[rows], one.ctcvr[rows]) for one in seeds]
        for arm, seeds in outcomes.items()
    }
    counts = {
        "exposures": int(rows.sum()),
        "users": int(np.unique(users).size),
        "clicks": int(exposed.click.sum()),
        "conversions": int(both.sum()),
    }
    return counts | arm_figures(part, exposed, resamples=RESAMPLES, seed=seed)


def _summary(metrics: dict[str, Any]) -> Summary:
    """The two AUCs of each arm over all exposures; a figure that is not defined is left out."""
    return {
        f"{arm}_{name}": round(figures[name]["value"], _DECIMALS)
        for arm, figures in metrics["arms"].items()
        for name in ("click_auc", "ctcvr_auc")
        if figures[name]["value"] is not None
    }
