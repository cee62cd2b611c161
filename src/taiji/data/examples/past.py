"""Figures: what was known of each asked user strictly before the asked moment.

The one place that looks at a user's past, for the examples of a run and for the prompts of a
day alike, so that nothing later than the cut-off can reach a prompt by another way.
"""

from taiji.data.engine.protocol import Engine
from taiji.data.examples import past_sql as sql

EVENTS_OF_A_MODALITY = 10
"""At most so many events of each modality, newest first: a prompt tells fewer."""


def prepare_figures(engine: Engine, *, history_items: int, timezone: str, habit_kinds: str) -> str:
    """Compute what was known at every row of `asks`; return the SQL that reads it.

    Args:
        engine: Has `asks` (example_id, user_id, split, cutoff, since, place, and the targets),
            `log`, `items`, `users` and `events`.
        history_items: At most so many interactions, newest first.
        timezone: By whose clock it is evening.
        habit_kinds: Kinds of interaction that make a habit, as a list of SQL.

    Returns:
        SQL whose rows have the columns of `schema.FIGURES`, in the order of `asks.place`.
    """
    settings = {
        "history_items": history_items,
        "timezone": timezone,
        "kinds": habit_kinds,
        "events_items": EVENTS_OF_A_MODALITY,
    }
    for name, text in (
        ("visits", sql.VISITS),
        ("bounds", sql.BOUNDS),
        ("histories", sql.HISTORIES),
        ("prices", sql.PRICES),
        ("shelves", sql.SHELVES),
        ("names", sql.NAMES),
        ("bought", sql.BOUGHT),
        ("labels", sql.LABELS),
        ("top_categories", sql.TOP_CATEGORIES),
        ("brands", sql.BRANDS),
        ("usual_times", sql.USUAL_TIMES),
        ("recent_events", sql.RECENT_EVENTS),
    ):
        engine.create(name, text.format(**settings))
    return sql.FIGURES


def since_sql(history_days: int | None) -> str:
    """SQL for how far back is looked from a `cutoff`."""
    if history_days is None:
        return "TIMESTAMP '1900-01-01 00:00:00'"
    return f"cutoff - INTERVAL {history_days} DAYS"
