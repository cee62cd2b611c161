"""Where features wait to be read: SQLite on one machine, Redis beyond it."""

from taiji.serving.store.protocol import (
    FOREVER,
    AsOf,
    Found,
    OnlineStore,
    Record,
    Versions,
)

__all__ = [
    "FOREVER",
    "AsOf",
    "Found",
    "OnlineStore",
    "Record",
    "Versions",
]
