"""Stage 1, `construct`: a log becomes tables and examples.

Writes users, items, interactions, exposures and examples as Parquet, and `quarantine.json`,
which counts what was read and not kept, and why.
"""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from taiji import schema
from taiji.artifacts import write_json, write_parquet
from taiji.data import complete_journey
from taiji.data.examples import draw_examples
from taiji.data.tables import Counts, Tables
from taiji.errors import DataError
from taiji.stages.context import StageContext, Summary

_SPLITS = ("sft", "rl", "test", "rank_train", "rank_test")
_STEPS = 3


def construct(ctx: StageContext) -> Summary:
    """Build the tables and the examples that every later stage reads."""
    section, seed = ctx.recipe.data, ctx.recipe.seed
    ctx.progress(0, _STEPS, "reading the log")
    tables = complete_journey.load(section, seed)
    ctx.progress(1, _STEPS, "drawing examples")
    examples, baskets = draw_examples(tables, section, seed)
    _require_every_split(examples, baskets)
    ctx.progress(2, _STEPS, "writing tables")
    write_parquet(tables.users, ctx.out / "users.parquet", schema.USERS)
    write_parquet(tables.items, ctx.out / "items.parquet", schema.ITEMS)
    write_parquet(tables.interactions, ctx.out / "interactions.parquet", schema.INTERACTIONS)
    write_parquet(tables.exposures, ctx.out / "exposures.parquet", schema.EXPOSURES)
    write_parquet(examples, ctx.out / "examples.parquet", schema.EXAMPLES)
    write_json({**tables.quarantine, "baskets": baskets}, ctx.out / "quarantine.json")
    ctx.progress(_STEPS, _STEPS, "done")
    return _summary(tables, examples)


def _require_every_split(examples: pa.Table, baskets: dict[str, Counts]) -> None:
    missing = sorted(set(_SPLITS) - set(examples["split"].to_pylist()))
    if missing:
        raise DataError(
            f"construct: no example for {', '.join(missing)}: the log gave {baskets}: "
            "use a longer log or a smaller holdout_share"
        )


def _summary(tables: Tables, examples: pa.Table) -> Summary:
    exposures, lines = tables.exposures, tables.quarantine["transactions"]
    by_split = Counter(examples["split"].to_pylist())
    return {
        "users": tables.users.num_rows,
        "items": tables.items.num_rows,
        "interactions": tables.interactions.num_rows,
        "exposures": exposures.num_rows,
        "clicks": pc.sum(exposures["click"]).as_py() or 0,
        "conversions": pc.sum(exposures["conversion"]).as_py() or 0,
        **{f"examples, {split}": by_split[split] for split in _SPLITS},
        "long-tail examples": pc.sum(examples["long_tail"]).as_py(),
        "lines read": sum(lines.values()),
        **{f"lines dropped, {why}": num for why, num in lines.items() if why != "kept"},
    }
