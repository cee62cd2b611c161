"""The event log of `construct`, as the ranking models ask it."""

from pathlib import Path

from taiji.artifacts import read_parquet
from taiji.data.splits import Calendar
from taiji.ranking.pairs import AsOf
from taiji.schema import INTERACTIONS, ITEMS, USERS


def read_event_log(construct: Path) -> AsOf:
    """Read users, items, interactions and the calendar."""
    return AsOf(
        users=read_parquet(construct / "users.parquet", USERS),
        items=read_parquet(construct / "items.parquet", ITEMS),
        interactions=read_parquet(construct / "interactions.parquet", INTERACTIONS),
        calendar=Calendar.read(construct / "windows.json"),
    )
