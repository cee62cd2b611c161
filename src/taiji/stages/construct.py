"""Stage 1, `construct`: a log becomes tables and examples.

Writes users, items, interactions, events, exposures and examples as Parquet, `windows.json` with
the windows that every later stage keeps to, `contents.json` with what the log holds and lacks, and
`quarantine.json`, which counts what was read and not kept, and why. DuckDB and Spark (`engine`)
write the same examples.
"""

import logging
from collections.abc import Mapping

from taiji.data.engine import Engine, open_engine
from taiji.data.examples.examples import SPLITS, draw_examples
from taiji.data.problems import Counts, UnusableError
from taiji.data.tables.prepare import TABLES, prepare_tables
from taiji.errors import DataError
from taiji.schema import ITEMS
from taiji.stages.parts.constructed import CONTENTS
from taiji.stages.parts.context import StageContext, Summary
from taiji.stages.parts.erased import drop_erased
from taiji.stages.parts.legible import read_titles, unreadable_titles
from taiji.store.files import read_parquet, write_json

logger = logging.getLogger(__name__)

_STEPS = 3


def construct(ctx: StageContext) -> Summary:
    """Build the tables and the examples that every later stage reads.

    Raises:
        DataError: The log is unusable, or gives no example for one of the splits.
        EngineError: The engine does not start.
    """
    section, seed = ctx.recipe.data, ctx.recipe.seed
    scratch = ctx.out.with_name("construct.scratch")  # beside what is published, never in it
    with open_engine(ctx.recipe.engine, scratch, memory_gib=ctx.recipe.engine_memory_gib) as engine:
        ctx.progress(0, _STEPS, "reading the log")
        counts, num_cut, contents = prepare_tables(engine, section, seed, ctx.out)
        drop_erased(ctx.out, ctx.out.parent.parent, ctx.recipe.report.pseudonym_key_env)
        _require_legible(ctx)
        ctx.progress(1, _STEPS, "drawing examples")
        calendar, baskets = draw_examples(
            engine, section, seed, ctx.out / "examples.parquet", contents.target_kinds
        )
        ctx.progress(2, _STEPS, "counting")
        engine.read("examples", [ctx.out / "examples.parquet"])
        by_split = _count_splits(engine)
        _require_every_split(by_split, baskets)
        calendar.write(ctx.out / "windows.json")
        write_json(contents.to_json(), ctx.out / CONTENTS)
        write_json({**counts, "baskets": baskets}, ctx.out / "quarantine.json")
        summary = _summary(engine, by_split, counts, sampled=contents.sampled)
    ctx.progress(_STEPS, _STEPS, "done")
    return summary | ({"names cut": num_cut} if num_cut else {})


def _require_legible(ctx: StageContext) -> None:
    """Refuse titles that no model of the recipe can read, before any of them has worked.

    Raises:
        UnusableError: They are all the same to the encoder.
    """
    titles = read_parquet(ctx.out / "items.parquet", ITEMS)["title"].to_pylist()
    for problem in unreadable_titles(ctx.recipe, read_titles(ctx.recipe, titles)):
        if problem.fatal:
            raise UnusableError(problem)
        logger.warning("%s", problem)


def _count_splits(engine: Engine) -> dict[str, int]:
    rows = engine.query("SELECT split, count(*) AS num FROM examples GROUP BY split").to_pylist()
    return {row["split"]: row["num"] for row in rows}


def _require_every_split(by_split: Mapping[str, int], baskets: Mapping[str, Counts]) -> None:
    missing = sorted(set(SPLITS) - set(by_split))
    if missing:
        raise DataError(
            f"construct: no example for {', '.join(missing)}: the log gave {dict(baskets)}: "
            "use a longer log, other data.splits.windows or a smaller data.holdout_share"
        )


def _summary(
    engine: Engine, by_split: Mapping[str, int], counts: Mapping[str, Counts], *, sampled: bool
) -> Summary:
    sizes = {
        name: engine.query(f"SELECT count(*) AS num FROM {name}")["num"][0].as_py()
        for name in TABLES
    }
    (sums,) = engine.query(
        "SELECT (SELECT sum(click) FROM exposures) AS clicks, "
        "(SELECT sum(conversion) FROM exposures) AS conversions, "
        "(SELECT count(*) FROM examples WHERE long_tail) AS long_tail"
    ).to_pylist()
    lines = counts["interactions"]
    exposures = "sampled exposures" if sampled else "exposures"
    return {
        **{
            exposures if name == "exposures" else name: number
            for name, number in sizes.items()
            if number or name not in ("events", "exposures")
        },
        # DuckDB adds in 128 bits, which arrive as decimals.
        "clicks": int(sums["clicks"] or 0),
        "conversions": int(sums["conversions"] or 0),
        **{f"examples, {split}": by_split[split] for split in SPLITS},
        "long-tail examples": sums["long_tail"],
        "lines read": sum(lines.values()),
        **{f"lines dropped, {why}": num for why, num in lines.items() if why != "kept"},
    }
