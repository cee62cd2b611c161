"""`ceiling`: what any text that names categories could lift in this log, before one is written.

The ranking model on its own features is trained once a seed and frozen. An oracle, which looks into
the future and is right as often as it is told to be, names categories; a stack fitted on visits
that the model did not learn from says what the names add in the test window. docs/lift.md reads
the curve.
"""

import logging

from taiji.lift.dose_response import dose_response
from taiji.lift.reading import in_words, read_curves
from taiji.report.lift_charts import dose_response_chart
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext, Summary
from taiji.stages.parts.frozen_models import (
    FEW_CLICKS,
    FROZEN,
    MORE_CLICKS,
    count_rows,
    fit_frozen,
    read_seeds,
    read_world,
)
from taiji.stages.parts.ranking_windows import read_ranking_windows
from taiji.store.files import read_parquet, replacing, write_json

_log = logging.getLogger(__name__)


def ceiling(ctx: StageContext) -> Summary:
    """Write metrics.json, the curve as curve.svg, curve.png and curve.json, and frozen.parquet.

    Raises:
        DataError: There are no exposures, no categories, or too few clicks to fit a stack on.
    """
    logs, section = Constructed(ctx.inputs["construct"]), ctx.recipe.ceiling
    windows, world = read_ranking_windows(logs), read_world(logs)
    fit_frozen(ctx, windows, section.seeds)
    frozen = read_parquet(ctx.out / "frozen.parquet", FROZEN)
    seeds = read_seeds(logs, frozen, windows, world, ctx.recipe.seed)
    found = dose_response(section, world, seeds, seed=ctx.recipe.seed, on_step=ctx.progress)
    counts = count_rows(seeds, windows)
    few_clicks = counts["held_clicks"] < FEW_CLICKS
    if few_clicks:
        _log.warning(
            "ceiling: %d clicks were kept from training: every interval will be wide: %s",
            counts["held_clicks"],
            MORE_CLICKS,
        )
    readings = read_curves(found["points"], counts["users"])
    metrics = {
        **found,
        "counts": counts,
        "base": seeds[0].judge.base(),
        "readings": readings,
        "words": in_words(readings),
        "few_clicks": few_clicks,
        "seeds": section.seeds,
    }
    for name, content in dose_response_chart(metrics).items():
        with replacing(ctx.out / name) as temporary:
            temporary.write_bytes(content)
    write_json(metrics, ctx.out / "metrics.json")
    return {"in words": metrics["words"], **_heads(metrics["counts"])}


def _heads(counts: dict[str, int]) -> Summary:
    return {
        name.replace("_", " "): counts[name] for name in ("users", "held_clicks", "test_clicks")
    }
