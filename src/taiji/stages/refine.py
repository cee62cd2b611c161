"""Stage 2, ORFT, second half: keep the chains under which the true answer is likely."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from taiji.config import RefineSection
from taiji.errors import DataError
from taiji.reasoning.selection import KEPT, Rule, Selection, select
from taiji.schema import SCORED, SCORES
from taiji.stages.parts.context import StageContext, Summary
from taiji.store.files import read_parquet, write_json, write_parquet

Row = dict[str, Any]


def refine(ctx: StageContext) -> Summary:
    """Write `scored.parquet` with the verdict on every chain, and `threshold.json` with R."""
    scored: list[Row] = read_parquet(ctx.inputs["score"] / "scores.parquet", SCORES).to_pylist()
    section = ctx.recipe.refine
    try:
        selection = select(scored, selection_rule(section, ctx.recipe.seed))
    except ValueError as error:
        raise DataError(
            "refine: no chain can be kept: the teacher's all failed or leak the answer"
        ) from error
    for row, reason in zip(scored, selection.reasons, strict=True):
        row |= {"reason": reason, "kept": reason == KEPT}
    choice = {
        "filter": section.filter,
        "threshold": selection.threshold,
        "rule": selection.rule,
        "sampled": selection.sampled,
    }
    write_json(choice, ctx.out / "threshold.json")
    write_parquet(pa.Table.from_pylist(scored, schema=SCORED), ctx.out / "scored.parquet", SCORED)
    return {"filter": section.filter, **_summary(scored, selection)}


def selection_rule(section: RefineSection, seed: int) -> Rule:
    """How a recipe chooses; with it `select` can choose anew from a scored table."""
    return Rule(
        filter=section.filter,
        quantile=section.quantile,
        sample=section.threshold_sample,
        seed=seed,
        threshold=section.threshold,
        top_m=section.top_m,
        drop_leaks=section.drop_leaks,
    )


def _summary(scored: Sequence[Row], selection: Selection) -> Summary:
    survivors = Counter(row["example_id"] for row in scored if row["kept"])
    num_examples = len({row["example_id"] for row in scored})
    leaks = Counter(row["leak"] for row in scored if row["leak"] is not None)
    summary: Summary = {
        "chains": len(scored),
        "kept": sum(survivors.values()),
        "kept_share": round(sum(survivors.values()) / len(scored), 4),
        "examples_with_a_chain_share": round(len(survivors) / num_examples, 4),
        "rule": selection.rule,
    }
    if selection.threshold is not None:
        summary["threshold"] = round(selection.threshold, 4)
    return summary | {"leak_share": round(leaks.total() / len(scored), 4)}
