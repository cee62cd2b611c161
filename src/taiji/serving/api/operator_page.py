"""A page for the operator: curves of the last hours, drawn by a few lines of script of our own.

It loads nothing from elsewhere and holds no user, item or key.
"""

from pathlib import Path

from taiji.serving.log import EventLog

_PAGE = Path(__file__).with_name("operator_page.html")


def page() -> str:
    """The page."""
    return _PAGE.read_text(encoding="utf-8")


def minute_figures(log: EventLog) -> dict[str, dict[str, float]]:
    """Figure -> minute since 1970 -> value."""
    figures: dict[str, dict[str, float]] = {}
    for minute, name, value in log.minutes():
        figures.setdefault(name, {})[str(minute)] = value
    return figures
