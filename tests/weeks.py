"""The calendar of the default recipe, by the numbers of its weeks."""

from datetime import datetime

from taiji.config import DataSection
from taiji.data.calendar import plan_calendar

CALENDAR = plan_calendar(DataSection().splits)
WEEKS = {"history": (1, 8), "reward": (9, 32), "rl": (33, 38), "ranker": (39, 46), "test": (47, 53)}
"""First and last week of each window."""

_STARTS = [*CALENDAR.week_starts(), CALENDAR.windows[-1].ends]


def week_start(week: int) -> datetime:
    """First moment of a week in UTC: Monday, midnight where the shops are."""
    return _STARTS[week - 1]


def window_start(name: str) -> datetime:
    """First moment of a window in UTC."""
    return CALENDAR.start(name)


def week_of(moment: datetime) -> int:
    """Number of the week that holds a moment."""
    return next(week for week in range(53, 0, -1) if week_start(week) <= moment)
