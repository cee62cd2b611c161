"""Prompts day by day: a new day of logs costs the users whose window it changed.

A user's prompt is as of the end of the last local day on which their window changed: something
happened, or, with `data.history_days`, something became too old. It does not depend on when it
was computed, so a day on which nothing happened to a user needs no new prompt, and what the days
have written one after the other is what one rebuild writes. Each day writes one partition,
`dt=<day>/prompts.parquet`, with the users that changed since the partition before it. A row with
an empty history says that nothing is left of a user's window.

A change of profiles or of the catalogue changes no window: rebuild after one.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taiji.config import DataSection, Recipe
from taiji.config.section import YEARS
from taiji.data.calendar import timestamp_sql
from taiji.data.engine import Engine, open_engine
from taiji.data.engine.keys import joined_key
from taiji.data.examples.examples import write_prompts
from taiji.data.examples.past import since_sql
from taiji.data.tables.prepare import prepare_tables
from taiji.data.tables.target_kinds import find_target_kinds
from taiji.errors import ConfigError, DataError, RunDirectoryError
from taiji.schema import EXAMPLES
from taiji.store.files import read_parquet
from taiji.store.lock import locked

_FILE = "prompts.parquet"
_LONG_AGO = date(1900, 1, 1)

# The last local day on which something entered or left a user's window.
_CHANGES = """
WITH moments AS (
    SELECT user_id, ts FROM interactions
    UNION ALL
    SELECT user_id, ts FROM events
),
changes AS (
    SELECT user_id, ts AS changed_at FROM moments WHERE ts < {ends} AND ts >= {starts}
{departures})
SELECT
    user_id,
    max(CAST(convert_timezone('UTC', '{timezone}', CAST(changed_at AS TIMESTAMP_NTZ)) AS DATE))
        AS day
FROM changes
GROUP BY user_id
"""
_DEPARTURES = """
    UNION ALL
    SELECT user_id, ts + INTERVAL {days} DAYS AS changed_at
    FROM moments
    WHERE ts + INTERVAL {days} DAYS < {ends} AND ts + INTERVAL {days} DAYS >= {starts}
"""

_CUTOFFS = """
SELECT
    user_id,
    CAST(
        convert_timezone('{timezone}', 'UTC', CAST(date_add(day, 1) AS TIMESTAMP_NTZ)) AS TIMESTAMP
    ) AS cutoff
FROM changes
"""

_ASKS = f"""
SELECT
    {joined_key("'day'", "user_id")} AS example_id,
    user_id,
    'day' AS split,
    cutoff,
    {{since}} AS since,
    CAST(NULL AS STRING) AS target_item_id,
    CAST(NULL AS STRING) AS novel_target_item_id,
    CAST(NULL AS ARRAY<STRING>) AS target_item_ids,
    CAST(NULL AS ARRAY<STRING>) AS basket_item_ids,
    row_number() OVER (ORDER BY user_id) AS place
FROM cutoffs
"""

# Only what the asked windows hold is sorted and joined.
_LOG = """
SELECT interactions.*
FROM interactions
JOIN asks ON asks.user_id = interactions.user_id
WHERE interactions.ts >= asks.since AND interactions.ts < asks.cutoff
"""


@dataclass(frozen=True)
class DayReport:
    """What one run wrote.

    Attributes:
        path: The partition.
        after: The day of the partition before it; None = none, and every user was written.
        num_touched: Users whose window has changed since then.
        num_users: Users of the log.
    """

    path: Path
    after: date | None
    num_touched: int
    num_users: int


def run_day(recipe: Recipe, day: date, folder: Path, *, rebuild: bool = False) -> DayReport:
    """Read the source of a recipe and write the prompts of a day; see `write_day`.

    Raises:
        DataError: The source is unusable, or nothing has happened by then.
        EngineError: The engine does not start.
        LockedError: Another process writes prompts there.
        RunDirectoryError: The folder cannot be written to.
    """
    with locked(folder), _scratch(folder) as work:
        tables, scratch = work / "tables", work / "scratch"
        tables.mkdir()
        memory = recipe.engine_memory_gib
        with open_engine(recipe.engine, scratch, memory_gib=memory) as engine:
            prepare_tables(engine, recipe.data, recipe.seed, tables)
            return write_day(engine, recipe.data, day, folder, rebuild=rebuild)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder beside the partitions, so that nothing of the log is ever among them.

    What a killed run left, here and among the partitions, goes first.

    Raises:
        RunDirectoryError: The folder above cannot be written to.
    """
    whole = folder.absolute()
    work = whole.with_name(f".{whole.name}.scratch")
    for leftover in (work, *whole.glob(".tables-*")):
        shutil.rmtree(leftover, ignore_errors=True)
    for leftover in whole.glob("dt=*/.*.tmp"):
        leftover.unlink()
    try:
        work.mkdir()
    except OSError as error:
        raise RunDirectoryError(f"{work}: {error.strerror}: choose another folder") from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def parse_day(text: str) -> date:
    """A day as the command line gives it.

    Raises:
        ConfigError: It is no day.
    """
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{text!r}: not a day: give YYYY-MM-DD") from error
    if not YEARS[0] <= day.year <= YEARS[1]:
        raise ConfigError(f"{text}: not a day of {YEARS[0]} to {YEARS[1]}, as logs are")
    return day


def write_day(
    engine: Engine, section: DataSection, day: date, folder: Path, *, rebuild: bool = False
) -> DayReport:
    """Write the prompts that have changed since the partition before `day`.

    Running a day again replaces its partition. After late events, run their day again and every
    day after it.

    Args:
        engine: Has `interactions`, `events`, `items` and `users`.
        section: The recipe's `data`.
        day: The last local day that counts, by the clock of `data.splits.timezone`.
        folder: Where the partitions are.
        rebuild: Write every user, as if there were no partition before.

    Raises:
        DataError: No user has changed by then, as the log begins later, or an earlier partition is
            damaged: what it held would be missing from then on.
    """
    before = [] if rebuild else [done for done in days(folder) if done < day]
    after = max(before, default=None)
    for done in before:
        _require_whole(folder, done)
    _ask(engine, section, day, after)
    num_users, num_touched = (
        engine.query(f"SELECT count(*) AS num FROM {name}")["num"][0].as_py()
        for name in ("users", "asks")
    )
    if not num_touched and after is None:
        raise DataError(f"interactions: nothing has happened by {day}: give a later day")
    path = folder / f"dt={day}" / _FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_prompts(engine, section, path, find_target_kinds(engine, section), _LOG)
    return DayReport(path, after, num_touched, num_users)


def days(folder: Path) -> list[date]:
    """The days that have a partition, in order.

    Raises:
        DataError: A partition's name holds no date.
    """
    return sorted(_day_of(path.parent) for path in folder.glob(f"dt=*/{_FILE}"))


def _day_of(partition: Path) -> date:
    name = partition.name.removeprefix("dt=")
    try:
        day = date.fromisoformat(name)
        if day.isoformat() == name:
            return day
    except ValueError:
        pass
    raise DataError(f"{partition}: {name!r} is no date as YYYY-MM-DD: move it away")


def _require_whole(folder: Path, day: date) -> None:
    """Whoever has not changed since a partition stands in it alone."""
    path = folder / f"dt={day}" / _FILE
    try:
        pq.read_metadata(path)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise _damaged(path, day, error) from error


def _damaged(path: Path, day: date, error: BaseException) -> DataError:
    why = " ".join(str(error).split())  # a library's words may have lines of their own
    return DataError(f"{path}: damaged Parquet ({why}): write {day} again, then every day after it")


def read_current(folder: Path, day: date) -> pa.Table:
    """The prompt of every user who has one at the end of `day`, by user id.

    Raises:
        DataError: A partition is damaged.
        MissingArtifactError: No partition is that old.
    """
    tables, known = [], set[str]()
    for done in reversed([done for done in days(folder) if done <= day] or [day]):
        path = folder / f"dt={done}" / _FILE
        try:
            table = read_parquet(path, EXAMPLES)
        except DataError as error:
            raise _damaged(path, done, error.__cause__ or error) from error
        is_new = pa.array([user not in known for user in table["user_id"].to_pylist()], pa.bool_())
        known |= set(table["user_id"].to_pylist())
        tables.append(table.filter(is_new))
    newest = pa.concat_tables(tables)
    return newest.filter(pc.greater(newest["history_length"], 0)).sort_by("user_id")


def _ask(engine: Engine, section: DataSection, day: date, after: date | None) -> None:
    timezone = section.splits.timezone
    settings = {
        "timezone": timezone,
        "starts": timestamp_sql(_end_of(after or _LONG_AGO, timezone)),
        "ends": timestamp_sql(_end_of(day, timezone)),
        "days": section.history_days,
        "since": since_sql(section.history_days),
    }
    departures = "" if section.history_days is None else _DEPARTURES.format(**settings)
    engine.create("changes", _CHANGES.format(departures=departures, **settings))
    engine.create("cutoffs", _CUTOFFS.format(**settings))
    engine.create("asks", _ASKS.format(**settings))


def _end_of(day: date, timezone: str) -> datetime:
    midnight = datetime.combine(day + timedelta(days=1), time(), ZoneInfo(timezone))
    return midnight.astimezone(UTC)
