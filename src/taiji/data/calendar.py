"""Who and when: the windows of the log, the held-out users, hashes that never change.

Why five windows: the ranking model learns from weeks in which no language model was trained,
or its training features would know the labels and its test features would not; and the
reward's ranking model never sees the weeks that judge.

Draws are made by MD5 of ids, which sees no label, inside the engine. It is defined by a standard,
so a draw is the same on every machine, engine and version; an engine's own `hash()` makes no
such promise.
"""

import itertools
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from taiji.config import DateWindows, ShareWindows, SplitsSection
from taiji.errors import DataError
from taiji.schema import TIME
from taiji.store.files import read_json, write_json

WINDOWS = ("history", "reward", "rl", "ranker", "test")
"""In the order of time."""

TARGET_SPLITS = {"reward": "sft", "rl": "rl", "test": "test"}
"""Windows whose baskets become targets, and the split that they feed."""

RANK_SPLITS = {"rank_train": "ranker", "rank_test": "test"}
"""Splits that only ask for features, and the window before which they look back."""

WEEK_DAYS = 7


@dataclass(frozen=True)
class Window:
    """A stretch of the log, [starts, ends) in UTC."""

    name: str
    starts: datetime
    ends: datetime

    def rows(self, table: pa.Table) -> pa.Table:
        """The rows of a table whose `ts` lies in the window."""
        starts, ends = pa.scalar(self.starts, TIME), pa.scalar(self.ends, TIME)
        ts = table["ts"]
        return table.filter(pc.and_(pc.greater_equal(ts, starts), pc.less(ts, ends)))


@dataclass(frozen=True)
class Calendar:
    """The windows of one log, and the clock by which they begin.

    Raises:
        DataError: A window is empty, overlaps the next, or is not where `WINDOWS` puts it.
    """

    timezone: str
    windows: tuple[Window, ...]

    def __post_init__(self) -> None:  # noqa: D105
        names = tuple(window.name for window in self.windows)
        if names != WINDOWS:
            raise DataError(f"windows: {names}: they must be {', '.join(WINDOWS)}, in this order")
        for window in self.windows:
            if window.starts >= window.ends:
                raise DataError(
                    f"windows: {window.name} is empty ({window.starts} to {window.ends}): "
                    "the log is too short for data.splits: give dates or other shares"
                )
        for window, after in itertools.pairwise(self.windows):
            if window.ends > after.starts:
                raise DataError(
                    f"windows: {window.name} ends {window.ends}, after {after.name} begins "
                    f"({after.starts}): change data.splits.windows"
                )

    def window(self, name: str) -> Window:
        """The window of this name."""
        return self.windows[WINDOWS.index(name)]

    def start(self, name: str) -> datetime:
        """First moment of a window."""
        return self.window(name).starts

    def week_starts(self) -> list[datetime]:
        """First moment of each week from the first window to the last.

        Midnight of the local clock, so that a change of summer time moves no border.
        """
        zone, ends = ZoneInfo(self.timezone), self.windows[-1].ends
        first = self.windows[0].starts.astimezone(zone).replace(tzinfo=None)
        weeks = (first + timedelta(days=WEEK_DAYS * number) for number in itertools.count())
        moments = (week.replace(tzinfo=zone).astimezone(UTC) for week in weeks)
        return list(itertools.takewhile(lambda moment: moment < ends, moments))

    def write(self, path: Path) -> None:
        """Write windows.json."""
        rows = [
            {
                "name": window.name,
                "starts": window.starts.isoformat(),
                "ends": window.ends.isoformat(),
            }
            for window in self.windows
        ]
        write_json({"timezone": self.timezone, "windows": rows}, path)

    @classmethod
    def read(cls, path: Path) -> "Calendar":
        """Read windows.json.

        Raises:
            MissingArtifactError: There is no such file.
            DataError: It does not hold windows in order.
        """
        content = read_json(path)
        try:
            windows = tuple(_window(row) for row in content["windows"])
            return cls(str(content["timezone"]), windows)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: not windows.json ({error}): rerun construct") from error


def plan_calendar(section: SplitsSection, first: datetime, last: datetime) -> Calendar:
    """Return the calendar of a log.

    Args:
        section: The recipe's splits.
        first: Time of the first interaction; `ShareWindows` divide what lies between.
        last: Time of the last.

    Raises:
        DataError: The log is too short for five windows.
    """
    zone = ZoneInfo(section.timezone)
    match section.windows:
        case DateWindows() as dates:
            days = [getattr(dates, name) for name in WINDOWS] + [dates.end]
        case ShareWindows() as shares:
            days = _days_by_share(shares, first.astimezone(zone), last.astimezone(zone))
    moments = [datetime.combine(day, time(), zone).astimezone(UTC) for day in days]
    spans = zip(WINDOWS, itertools.pairwise(moments), strict=True)
    return Calendar(section.timezone, tuple(Window(name, *span) for name, span in spans))


def _days_by_share(shares: ShareWindows, first: datetime, last: datetime) -> list[date]:
    start, end = first.date(), last.date() + timedelta(days=1)
    parts = itertools.accumulate(getattr(shares, name) for name in WINDOWS[:-1])
    inner = [start + timedelta(days=round((end - start).days * part)) for part in parts]
    return [start, *inner, end]


def _window(row: dict[str, Any]) -> Window:
    starts, ends = (datetime.fromisoformat(row[key]) for key in ("starts", "ends"))
    return Window(row["name"], starts, ends)


def hash_sql(salt: str, *columns: str) -> str:
    """Return SQL for a hash of the columns: 32 hexadecimal digits that sort as a number would."""
    if not salt.replace("-", "").isalnum():
        raise ValueError(f"salt {salt!r}: letters, digits and dashes only, it becomes SQL")
    return f"md5(concat_ws('|', '{salt}', {', '.join(columns)}))"


def sample_sql(share: float, salt: str, *columns: str) -> str:
    """Return SQL that is true for a `share` of the rows, chosen by the columns alone."""
    bound = round(share * 2**32)
    if bound >= 2**32:
        return "true"
    return f"substr({hash_sql(salt, *columns)}, 1, 8) < '{bound:08x}'"


def timestamp_sql(moment: datetime) -> str:
    """Return SQL for a moment; the session's zone must be UTC, as every engine's is."""
    return f"TIMESTAMP '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}'"
