"""Any source becomes users, items, interactions, exposures and events; nothing goes missing.

Every row that was read is kept, merged with its like, or counted under one reason; the first
of each reason are written to quarantine.parquet with their place and what stood there. Rows
stream through the engine from file to file.
"""

import logging
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from taiji.config import DataSection
from taiji.config.mapping import (
    EventsTable,
    ExposuresTable,
    InteractionsTable,
    ItemsTable,
    UsersTable,
)
from taiji.config.sources import CompleteJourneySource, TablesSource
from taiji.data.calendar import sample_sql
from taiji.data.engine.protocol import Engine
from taiji.data.problems import MERGED, MOST_SAMPLES, QUARANTINE, Counts, Problem, UnusableError
from taiji.data.sources import complete_journey
from taiji.data.sources.known import described
from taiji.data.tables import canonical_sql as sql
from taiji.data.tables import mapping as m
from taiji.data.tables.doubtful_ids import alike_ids, differing_titles, strangers
from taiji.data.tables.misfits import Opened
from taiji.data.tables.opening import open_source
from taiji.data.tables.orders import LINES, doubtful_orders, find_orders
from taiji.data.tables.own_tops import SHAPED, kept_exposures
from taiji.data.tables.row_problems import row_problems
from taiji.data.tables.rules import Mapped, judged_sql
from taiji.data.tables.unreadable import unreadable
from taiji.schema import EVENTS, EXPOSURES, INTERACTIONS, ITEMS, OUTCOMES, PLACES, USERS

logger = logging.getLogger(__name__)

NOT_DRAWN = "not drawn: exposure_share"

Numbers = Mapping[str, list[int]]
"""Canonical table -> numbers of the raw tables that feed it."""


@dataclass
class Prepared:
    """What became of a source.

    Attributes:
        counts: Table -> reason -> rows that were read; `kept` are those that were written.
        problems: What a person should know, fatal or not.
    """

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def prepare(engine: Engine, section: DataSection, seed: int, folder: Path) -> Mapping[str, Counts]:
    """Write users, items, interactions, exposures, events and quarantine as Parquet.

    Args:
        section: `source`, `exposure_share` and `holdout_share` are used.
        seed: Draws the exposures. The held-out users do not depend on it: users that one seed
            trains on would judge another.
        folder: Where the files go.

    Returns:
        Table -> reason -> rows that were read; `kept` are those that were written.

    Raises:
        DataError: The data is unusable; the message has one line for each problem.
    """
    prepared = prepare_all(engine, section, seed, folder)
    fatal = [problem for problem in prepared.problems if problem.fatal]
    if fatal:
        raise UnusableError(*fatal)
    for problem in prepared.problems:
        logger.warning("%s", problem)
    return prepared.counts


def prepare_all(engine: Engine, section: DataSection, seed: int, folder: Path) -> Prepared:
    """As `prepare`, but hand back what is wrong with the rows instead of raising."""
    if isinstance(section.source, CompleteJourneySource):
        return Prepared(complete_journey.deliver(engine, section, seed, folder))
    source, prepared = described(section.source), Prepared()
    with tempfile.TemporaryDirectory(prefix="raw-", dir=engine.scratch) as work:
        opened = open_source(engine, source, Path(work))
        numbers: dict[str, list[int]] = defaultdict(list)
        for one in opened:
            numbers[one.name].append(one.view.number)
        rules = {}
        for one in opened:  # items come first: the others ask whether the catalogue has theirs
            mapped = _mapped(one, source)
            rules[one.view.number] = mapped
            with unreadable("E102", one.label, "write the file anew, its text as UTF-8"):
                engine.create(f"judged_{one.view.number}", judged_sql(mapped))
            if one.name == "items":
                engine.create(m.CATALOGUE, sql.kept_sql("items", numbers["items"]))
        profile = () if source.users is None else tuple(source.users.profile)
        kept = _kept(engine, opened, numbers)
        written = _write(engine, section, seed, folder, numbers, profile, kept)
        refused = _write_quarantine(engine, opened, folder / "quarantine.parquet")
        for one in opened:
            counts = _counts(engine, one)
            _add(prepared.counts.setdefault(one.name, {}), counts)
            mapped = rules[one.view.number]
            prepared.problems += row_problems(one, mapped, counts, source, refused)
        prepared.problems += doubtful_orders(engine)
        prepared.problems += strangers(engine, numbers, opened)
        prepared.problems += alike_ids(engine, numbers)
        prepared.problems += differing_titles(engine, numbers["items"])
        if any(table.conversions or table.value is not None for table in source.exposures):
            _write_outcomes(engine, section, seed, folder, kept)
        if source.items.latitude is not None:
            prepared.problems += _write_places(engine, folder)
        _settle(prepared, written)
        for number in range(len(opened)):
            engine.create(f"judged_{number}", "SELECT 1 AS gone")  # what was large may go
        if SHAPED in kept["exposures"]:
            engine.create(SHAPED, "SELECT 1 AS gone")
    return prepared


def _limit(source: TablesSource) -> datetime:
    """The first moment that is too late."""
    last = source.observed_until or datetime.now(UTC).date()
    return datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)


def _in_file_order(one: Opened) -> bool:
    return isinstance(one.section, InteractionsTable) and one.section.in_file_order


def _mapped(one: Opened, source: TablesSource) -> Mapped:
    limit, shop_prices = _limit(source), source.items.price is not None
    match one.section:
        case UsersTable() as users:
            return m.map_users(users, one.view)
        case ItemsTable() as items:
            return m.map_items(items, one.view)
        case InteractionsTable() as interactions:
            return m.map_interactions(interactions, one.view, limit, shop_prices=shop_prices)
        case ExposuresTable() as exposures:
            return m.map_exposures(exposures, one.view, limit)
        case EventsTable() as events:
            return m.map_events(events, one.view, limit)
    raise AssertionError(f"no canonical table for {type(one.section).__name__}")


def _kept(engine: Engine, opened: Sequence[Opened], numbers: Numbers) -> dict[str, str]:
    """The good rows of the tables that several raw ones may feed, as SQL."""
    placed = {one.view.number for one in opened if _in_file_order(one)}
    tops = {
        one.view.number: one.section.own_top
        for one in opened
        if isinstance(one.section, ExposuresTable) and one.section.own_top is not None
    }
    return {
        "interactions": sql.kept_sql("interactions", numbers.get("interactions", []), placed),
        "exposures": kept_exposures(engine, numbers.get("exposures", []), tops),
        "events": sql.kept_sql("events", numbers.get("events", [])),
    }


def _write(
    engine: Engine,
    section: DataSection,
    seed: int,
    folder: Path,
    numbers: Numbers,
    profile: tuple[str, ...],
    kept: Mapping[str, str],
) -> dict[str, int]:
    """Write the canonical tables; return the rows of each."""
    held_out = sample_sql(section.holdout_share, "holdout", "seen.user_id")
    drawn = _drawn(section, seed)
    items = f"SELECT {', '.join(ITEMS.names)} FROM {m.CATALOGUE} ORDER BY item_id"
    find_orders(engine, kept["interactions"], section.splits.timezone)
    lines = LINES.format(kept=kept["interactions"])
    queries = {
        "items": (items, ITEMS),
        "users": (sql.users_sql(numbers, profile, held_out), USERS),
        "interactions": (sql.INTERACTIONS.format(lines=lines), INTERACTIONS),
        "exposures": (sql.EXPOSURES.format(kept=kept["exposures"], drawn=drawn), EXPOSURES),
        "events": (sql.EVENTS.format(kept=kept["events"]), EVENTS),
    }
    return {
        name: engine.write(query, folder / f"{name}.parquet", schema)
        for name, (query, schema) in queries.items()
    }


def _write_outcomes(
    engine: Engine, section: DataSection, seed: int, folder: Path, kept: Mapping[str, str]
) -> None:
    """Write beside the exposures, row by row, what else is known of their conversions."""
    query = sql.OUTCOMES.format(kept=kept["exposures"], drawn=_drawn(section, seed))
    engine.write(query, folder / "outcomes.parquet", OUTCOMES)


def _write_places(engine: Engine, folder: Path) -> Iterator[Problem]:
    """Write where items are; tell if nobody knows it of any."""
    query = sql.PLACES.format(items=m.CATALOGUE)
    if not engine.write(query, folder / "places.parquet", PLACES):
        mend = "map the columns that hold them, or leave latitude and longitude out"
        yield Problem("E118", "items.latitude", "no item has a place", mend, fatal=True)


def _drawn(section: DataSection, seed: int) -> str:
    key = ("user_id", "item_id", "cast(ts as string)", "placement")
    return sample_sql(section.exposure_share, f"exposure-{seed}", *key)


def _write_quarantine(engine: Engine, opened: Sequence[Opened], path: Path) -> pa.Table:
    """Write the first refused rows of each reason; return them."""
    broken = [
        {"number": one.view.number, "table": one.name, "files": one.label, "file": row.file}
        | {"row": row.row, "reason": row.reason, "value": row.text, "place": row.place}
        for one in opened
        for row in one.reading.broken
    ]
    numbered = pa.schema([("number", pa.int64()), *QUARANTINE, ("place", pa.int64())])
    engine.register("broken_rows", pa.Table.from_pylist(broken, numbered))
    parts = [sql.refused_sql(one.view.number, one.name, one.label) for one in opened]
    names = ", ".join(f"`{name}`" for name in numbered.names)
    rows = "\nUNION ALL\n".join((*parts, f"SELECT {names} FROM broken_rows"))
    engine.create("refused_rows", rows)
    order = "number, reason, file, `row`, key, value"
    engine.write(f"SELECT * FROM refused_rows ORDER BY {order}", path, QUARANTINE)
    return engine.query(
        f"SELECT * FROM refused_rows WHERE place <= {MOST_SAMPLES} ORDER BY {order}"
    )


def _counts(engine: Engine, one: Opened) -> dict[str, int]:
    """Count the rows of one raw table by what became of them."""
    counted = engine.query(
        "SELECT coalesce(fault, 'kept') AS reason, count(*) AS num_rows "
        f"FROM judged_{one.view.number} GROUP BY fault ORDER BY reason"
    )
    counts = {row["reason"]: row["num_rows"] for row in counted.to_pylist()}
    return counts | dict(sorted(one.reading.num_broken.items()))


def _add(total: dict[str, int], counts: Mapping[str, int]) -> None:
    for reason, num_rows in counts.items():
        total[reason] = total.get(reason, 0) + num_rows


def _settle(prepared: Prepared, written: Mapping[str, int]) -> None:
    """Count what was good and yet is no row of its own, and refuse a log without any."""
    for table, reason in (("interactions", MERGED), ("exposures", NOT_DRAWN)):
        counts = prepared.counts.get(table, {})
        if spared := counts.get("kept", 0) - written[table]:
            counts["kept"] = written[table]
            counts[reason] = spared
    for table in ("items", "interactions"):
        if not written[table]:
            what, mend = "no row is usable", "see what the other lines say of this table"
            prepared.problems.append(Problem("E108", table, what, mend, fatal=True))
