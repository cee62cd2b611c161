"""Stage 2, ORFT, second half: keep the chains under which the true answer is likely."""

import pyarrow as pa
import pyarrow.compute as pc

from taiji.config import RefineSection
from taiji.errors import DataError
from taiji.reasoning.selection import KEPT, Rule, Selection, select
from taiji.schema import SCORED, SCORES
from taiji.stages.parts.context import StageContext, Summary
from taiji.store.files import read_parquet, write_json, write_parquet

_JUDGED_BY = ["example_id", "status", "leak", "perplexity", "gain", "clipped"]
"""Columns that a choice looks at; chains themselves never become Python."""


def refine(ctx: StageContext) -> Summary:
    """Write `scored.parquet` with the verdict on every chain, and `threshold.json` with R."""
    scores = read_parquet(ctx.inputs["score"] / "scores.parquet", SCORES)
    section = ctx.recipe.refine
    try:
        rows = scores.select(_JUDGED_BY).to_pylist()
        selection = select(rows, selection_rule(section, ctx.recipe.seed))
    except ValueError as error:
        raise DataError(
            "refine: no chain can be kept: the teacher's all failed or leak the answer"
            f" ({_what_became(scores)})"
        ) from error
    reasons = pa.array(selection.reasons, pa.string())
    scored = scores.append_column("kept", pc.equal(reasons, KEPT)).append_column("reason", reasons)
    choice = {
        "filter": section.filter,
        "threshold": selection.threshold,
        "rule": selection.rule,
        "sampled": selection.sampled,
    }
    write_json(choice, ctx.out / "threshold.json")
    write_parquet(scored, ctx.out / "scored.parquet", SCORED)
    return {"filter": section.filter, **_summary(scored, selection)}


def _what_became(scores: pa.Table) -> str:
    """How many chains ended how, for an error: `3 empty`."""
    counts = pc.value_counts(scores["status"]).to_pylist()
    return ", ".join(f"{count['counts']:,} {count['values']}" for count in counts)


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


def _summary(scored: pa.Table, selection: Selection) -> Summary:
    num_kept = pc.sum(scored["kept"]).as_py() or 0
    survivors = len(pc.unique(scored["example_id"].filter(scored["kept"])))
    summary: Summary = {
        "chains": scored.num_rows,
        "kept": num_kept,
        "kept_share": round(num_kept / scored.num_rows, 4),
        "examples_with_a_chain_share": round(survivors / len(pc.unique(scored["example_id"])), 4),
        "rule": selection.rule,
    }
    if selection.threshold is not None:
        summary["threshold"] = round(selection.threshold, 4)
    leaks = scored.num_rows - scored["leak"].null_count
    return summary | {"leak_share": round(leaks / scored.num_rows, 4)}
