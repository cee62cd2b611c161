"""Who and when: the windows of the log, the held-out users, hashes that never change.

Why five windows: the ranking model learns from weeks in which no language model was trained,
or its training features would know the labels and its test features would not; and the
reward's ranking model never sees the weeks that judge.

Draws are made by MD5 of ids, which sees no label, inside the engine. It is defined by a standard,
so a draw is the same on every machine, engine and version; an engine's own `hash()` makes no
such promise.
"""

import itertools
from collections.abc import Mapping, Sequence
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

MOST_OUTSIDE = 0.2
"""Share of a log beyond all windows that a person should hear of."""

_FEWEST_DAYS = 20  # of a log that is divided at midnights
_LAST_OF_HOUR = timedelta(minutes=59)


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

    def week_starts(self, window: str = WINDOWS[0]) -> list[datetime]:
        """First moment of each week from the start of a window to the end of the last.

        Midnight of the local clock, so that a change of summer time moves no border.
        """
        zone, ends = ZoneInfo(self.timezone), self.windows[-1].ends
        first = self.start(window).astimezone(zone).replace(tzinfo=None)
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


LOG_HOURS = """
SELECT date_trunc('HOUR', ts) AS hour, count(*) AS num_rows
FROM {interactions}
GROUP BY date_trunc('HOUR', ts)
ORDER BY hour
"""
"""How many interactions each hour of a log holds: rows of `LogHours`."""


@dataclass(frozen=True)
class LogHours:
    """When the interactions of a log happened.

    Attributes:
        starts: Hours that hold any, in UTC and in order.
        counts: How many each holds.
    """

    starts: tuple[datetime, ...]
    counts: tuple[int, ...]

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]]) -> "LogHours":
        """Read the result of `LOG_HOURS`."""
        hours = (row["hour"] for row in rows)
        known = (hour if hour.tzinfo else hour.replace(tzinfo=UTC) for hour in hours)
        return cls(tuple(known), tuple(row["num_rows"] for row in rows))

    def outside(self, calendar: Calendar) -> float:
        """Share of the interactions that no window holds."""
        first, end = calendar.windows[0].starts, calendar.windows[-1].ends
        lost = sum(
            count
            for start, count in zip(self.starts, self.counts, strict=True)
            if not first <= start < end
        )
        return lost / max(1, sum(self.counts))


NO_HOURS = LogHours((), ())


def plan_calendar(section: SplitsSection, log: LogHours = NO_HOURS) -> Calendar:
    """Return the calendar of a log.

    Args:
        section: The recipe's splits.
        log: Its interactions, which `ShareWindows` divide.

    Raises:
        DataError: The log is too short for five windows.
    """
    zone = ZoneInfo(section.timezone)
    match section.windows:
        case DateWindows() as dates:
            days = [getattr(dates, name) for name in WINDOWS] + [dates.end]
            moments = [datetime.combine(day, time(), zone).astimezone(UTC) for day in days]
        case ShareWindows() as shares:
            moments = _borders(shares, log, zone)
    spans = zip(WINDOWS, itertools.pairwise(moments), strict=True)
    return Calendar(section.timezone, tuple(Window(name, *span) for name, span in spans))


def _borders(shares: ShareWindows, log: LogHours, zone: ZoneInfo) -> list[datetime]:
    """Where each window begins, and the last one ends: at the midnights nearest to its share."""
    by_day: dict[date, int] = {}
    for hour, count in zip(log.starts, log.counts, strict=True):
        day = hour.astimezone(zone).date()
        by_day[day] = by_day.get(day, 0) + count
    if len(by_day) >= _FEWEST_DAYS:
        units = [datetime.combine(day, time(), zone).astimezone(UTC) for day in by_day]
        counts = list(by_day.values())
        # Where clocks differ by half an hour the last hour may end in the next day.
        last_day = (log.starts[-1] + _LAST_OF_HOUR).astimezone(zone).date()
        end = datetime.combine(last_day + timedelta(days=1), time(), zone).astimezone(UTC)
    else:
        units, counts = list(log.starts), list(log.counts)
        end = log.starts[-1] + timedelta(hours=1) if log.starts else datetime.now(UTC)
    if len(units) < len(WINDOWS):
        raise DataError(
            f"windows: the log has interactions in {len(units)} hours: too short for "
            f"{len(WINDOWS)} windows: use a longer log"
        )
    before = list(itertools.accumulate(counts, initial=0))
    chosen = [0]
    for number, part in enumerate(
        itertools.accumulate(getattr(shares, name) for name in WINDOWS[:-1]), start=1
    ):
        last = len(units) - (len(WINDOWS) - number)  # each later window needs a unit too
        places = range(chosen[-1] + 1, last + 1)
        chosen.append(min(places, key=lambda place: abs(before[place] - part * before[-1])))
    return [*(units[place] for place in chosen), end]


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
