"""Examples: a user, a moment, what was known strictly before it, and what came next.

A basket has one time, so its lines are a set and the target is one of them, chosen by a hash
that sees ids only, or all of them. The cut-off is the basket's time; profile and history hold
nothing at or after it. `draw_examples` says what was left out and why.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from taiji.config import DataSection
from taiji.data.calendar import (
    LOG_HOURS,
    MOST_OUTSIDE,
    RANK_SPLITS,
    TARGET_SPLITS,
    WEEK_DAYS,
    Calendar,
    LogHours,
    hash_sql,
    plan_calendar,
    timestamp_sql,
)
from taiji.data.engine.protocol import Engine
from taiji.data.examples import examples_sql as sql
from taiji.data.examples.offers import offers_at
from taiji.data.examples.past import prepare_figures, since_sql
from taiji.data.examples.render import ItemTexts, RenderSettings, build_item_texts, render_examples
from taiji.data.examples.text import wording
from taiji.data.problems import Counts
from taiji.data.tables.target_kinds import find_target_kinds, kinds_sql
from taiji.errors import DataError
from taiji.schema import EXAMPLES, ITEMS, TIME

logger = logging.getLogger(__name__)

SPLITS = ("sft", "rl", "test", "rank_train", "rank_test")
"""All splits, in the order in which examples are written."""

LOG_OF_ASKED = "SELECT * FROM interactions LEFT SEMI JOIN asks USING (user_id)"


def draw_examples(
    engine: Engine,
    section: DataSection,
    seed: int,
    path: Path,
    target_kinds: tuple[str, ...] | None = None,
) -> tuple[Calendar, dict[str, Counts]]:
    """Write the examples of every split; return the windows, and how orders were judged.

    `sft`, `rl` and `test` hold at most one order per user and period, with at least
    `data.min_history` interactions before it, different users first; held-out users appear in
    `test` alone. With `data.target` "novel" the first two take orders with an item that is new
    to the user, and that item is the target. `rank_train` and `rank_test` ask about the same
    users at the start of the windows `ranker` and `test`, or as often as `data.refresh` says, and
    have no target.

    Args:
        engine: Has `interactions`, `items`, `users` and `events` in the columns of the schema.
        section: The recipe's `data`.
        seed: Draws orders, lines and users.
        path: Where the table goes, in the columns of `schema.EXAMPLES`.
        target_kinds: Of interactions that can be foreseen; not given: as `find_target_kinds` says.

    Raises:
        DataError: The log is empty or too short for the windows of the recipe.
    """
    calendar = find_calendar(engine, section)
    _register_windows(engine, calendar, section.refresh)
    kinds = target_kinds or find_target_kinds(engine, section)
    settings = _settings(section, seed, calendar) | {"kinds": kinds_sql(kinds)}
    for name, text in (
        ("orders", sql.ORDERS),
        ("lengths", sql.LENGTHS),
        ("targets", sql.TARGETS),
        ("candidates", sql.CANDIDATES),
        ("drawn", sql.DRAWN),
        ("rank_users", sql.RANK_USERS),
        ("rank_asks", sql.RANK_ASKS_BY_VISIT if section.refresh == "visit" else sql.RANK_ASKS),
        ("asks", sql.ASKS),
    ):
        engine.create(name, text.format(**settings))
    write_prompts(engine, section, path, kinds)
    return calendar, _funnel(engine)


def write_prompts(
    engine: Engine,
    section: DataSection,
    path: Path,
    target_kinds: tuple[str, ...],
    log: str = LOG_OF_ASKED,
) -> int:
    """Write what is known at every row of `asks`, as text; return the rows.

    Args:
        engine: Has `asks` as `taiji.data.examples.past` wants them, their places counted from 1,
            `interactions`, `items`, `users` and `events`; `asks` and `log` are then those of the
            last part.
        section: The recipe's `data`.
        path: Where the table goes, in the columns of `schema.EXAMPLES`.
        target_kinds: Of interactions that make a habit.
        log: SQL of the interactions that matter to `asks`.
    """
    figures = partial(
        prepare_figures,
        engine,
        history_items=section.history_items,
        timezone=section.splits.timezone,
        habit_kinds=kinds_sql(target_kinds),
    )
    render = partial(render_examples, items=_item_texts(engine), settings=_wording(engine, section))

    def queries() -> Iterator[str]:
        for _ in _asks_in_parts(engine):
            engine.create("log", log)
            yield figures()

    return engine.map_batches(queries(), render, EXAMPLES, path)


def _asks_in_parts(engine: Engine) -> Iterator[None]:
    """Have `asks` hold some of its rows after the other, as many as the engine takes at once."""
    num = engine.query("SELECT count(*) AS num FROM asks")["num"][0].as_py()
    most = engine.asks_at_once
    if most is None or num <= most:
        yield
        return
    engine.create("all_asks", "SELECT * FROM asks")
    for start in range(0, num, most):
        part = f"SELECT * FROM all_asks WHERE place > {start} AND place <= {start + most}"
        engine.create("asks", part)
        yield


def find_calendar(engine: Engine, section: DataSection) -> Calendar:
    """The windows of the log that the engine holds.

    Raises:
        DataError: The log is empty, too short, or lies outside of the windows.
    """
    hours = engine.query(LOG_HOURS.format(interactions="interactions"))
    log = LogHours.from_rows(hours.to_pylist())
    if not log.starts:
        raise DataError("interactions: the log is empty: see what was quarantined, and why")
    calendar = plan_calendar(section.splits, log)
    first, last = (f"{moment:%Y-%m-%d}" for moment in (log.starts[0], log.starts[-1]))
    outside = log.outside(calendar)
    if outside == 1:
        raise DataError(
            f"data.splits.windows: the log lasts from {first} to {last} and no window touches it: "
            "give its dates, or windows.kind=shares"
        )
    if outside > MOST_OUTSIDE:
        logger.warning(
            "data.splits.windows: %.0f %% of the log (%s to %s) lies outside all windows",
            *(100 * outside, first, last),
        )
    return calendar


def rank_moments(
    calendar: Calendar, window: str, refresh: str
) -> list[tuple[datetime, str | None]]:
    """When text of the ranking users is asked for in a window, and what marks each moment.

    By visit it is whenever something is shown, and the window's start stands for all of them.
    """
    starts, ends = calendar.window(window).starts, calendar.window(window).ends
    if refresh in ("window", "visit"):
        return [(starts, None)]
    zone = ZoneInfo(calendar.timezone)
    days = 1 if refresh == "day" else WEEK_DAYS
    first = starts.astimezone(zone).date()
    moments = [starts]
    while True:
        day = first + timedelta(days=days * len(moments))
        moment = datetime.combine(day, time(), zone).astimezone(UTC)
        if moment >= ends:
            return [(one, f"{one.astimezone(zone):%Y%m%d}") for one in moments]
        moments.append(moment)


def _register_windows(engine: Engine, calendar: Calendar, refresh: str) -> None:
    zone = ZoneInfo(calendar.timezone)
    windows = [
        {
            "split": split,
            "starts": calendar.window(name).starts,
            "ends": calendar.window(name).ends,
            "first_day": calendar.start(name).astimezone(zone).date(),
        }
        for name, split in TARGET_SPLITS.items()
    ]
    moments = [
        {"split": split, "cutoff": cutoff, "ends": calendar.window(name).ends, "mark": mark}
        for split, name in RANK_SPLITS.items()
        for cutoff, mark in rank_moments(calendar, name, refresh)
    ]
    columns = {"split": pa.string(), "starts": TIME, "ends": TIME, "first_day": pa.date32()}
    engine.register("windows", pa.Table.from_pylist(windows, pa.schema(columns)))
    columns = {"split": pa.string(), "cutoff": TIME, "ends": TIME, "mark": pa.string()}
    engine.register("rank_moments", pa.Table.from_pylist(moments, pa.schema(columns)))


def _settings(section: DataSection, seed: int, calendar: Calendar) -> dict[str, object]:
    sizes = {"sft": section.num_sft, "rl": section.num_rl, "test": section.num_test}
    return {
        "line_hash": hash_sql(f"line-{seed}", "user_id", "order_id", "item_id"),
        "order_hash": hash_sql(f"order-{seed}", "orders.user_id", "orders.order_id"),
        "user_hash": hash_sql(f"user-{seed}", "users.user_id"),
        "needs_novel": str(section.target == "novel").lower(),
        "min_history": section.min_history,
        "num_rank_users": section.num_rank_users,
        "rank_starts": timestamp_sql(calendar.start(RANK_SPLITS["rank_train"])),
        "since": since_sql(section.history_days),
        "period_days": section.splits.period_days,
        "timezone": calendar.timezone,
        "target_item_ids": sql.TARGET_ITEM_IDS[section.target_items],
        "split_sizes": " ".join(f"WHEN '{split}' THEN {n}" for split, n in sizes.items()),
        "split_order": " ".join(f"WHEN '{split}' THEN {n}" for n, split in enumerate(SPLITS)),
    }


def _item_texts(engine: Engine) -> ItemTexts:
    """Items that histories name: their texts travel to wherever lines are written."""
    columns = ", ".join(ITEMS.names)
    named = f"SELECT {columns} FROM items LEFT SEMI JOIN interactions USING (item_id)"
    return build_item_texts(engine.query(f"{named} ORDER BY item_id"))


def _wording(engine: Engine, section: DataSection) -> RenderSettings:
    fields = engine.query("SELECT fields FROM users ORDER BY user_id LIMIT 1")["fields"]
    declared = [name for name, _ in (fields[0].as_py() or ())] if len(fields) else []
    count = section.offer_categories
    offers = offers_at(engine, count) if count else None
    return RenderSettings(wording(section.text, declared), section.long_tail, offers)


def _funnel(engine: Engine) -> dict[str, Counts]:
    """Split what was usable into what was drawn and what the recipe did not ask for."""
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for row in engine.query(sql.FUNNEL).to_pylist():
        counts[row["split"]][row["verdict"]] = row["num_orders"]
    rows = engine.query("SELECT split, count(*) AS num FROM drawn GROUP BY split").to_pylist()
    drawn: dict[str, Any] = {row["split"]: row["num"] for row in rows}
    for split, judged in counts.items():
        judged["drawn"] = drawn.get(split, 0)
        judged["beyond the number asked for"] = judged.pop("usable", 0) - judged["drawn"]
    return {split: counts[split] for split in sorted(counts)}
