"""The queue in a file of this machine."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from taiji.serving.bus.protocol import Delivery
from taiji.serving.unavailable import UnavailableError
from taiji.store.sqlite_files import Connections

_SCHEMA = """
CREATE TABLE IF NOT EXISTS queue (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    message BLOB NOT NULL,
    leased_until REAL NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS queue_by_lease ON queue (leased_until, id);
"""

_TAKE = """
UPDATE queue SET leased_until = ?
WHERE id IN (SELECT id FROM queue WHERE leased_until <= ? ORDER BY leased_until, id LIMIT ?)
RETURNING id, message
"""
_NAP_SECONDS = 0.05


class SqliteBus:
    """See `EventBus`.

    Args:
        path: The file; made if it is not there.
        lease_seconds: After this a message that nobody has acknowledged is handed out again.
    """

    def __init__(self, path: Path, lease_seconds: float) -> None:
        self._connections = Connections(path, _SCHEMA)
        self._lease = lease_seconds

    def publish(self, messages: Sequence[bytes]) -> None:
        """See `EventBus.publish`."""
        with _available(), self._connections.transaction() as db:
            db.executemany("INSERT INTO queue (message) VALUES (?)", [(m,) for m in messages])

    def take(self, most: int, wait_seconds: float) -> list[Delivery]:
        """See `EventBus.take`."""
        deadline = time.monotonic() + wait_seconds
        while not (taken := self._take(most)) and time.monotonic() < deadline:
            time.sleep(_NAP_SECONDS)
        return taken

    def _take(self, most: int) -> list[Delivery]:
        now = time.time()
        with _available():
            some = "SELECT 1 FROM queue WHERE leased_until <= ? LIMIT 1"
            if self._connections.own.execute(some, (now,)).fetchone() is None:
                return []
            with self._connections.transaction() as db:
                rows = db.execute(_TAKE, (now + self._lease, now, most)).fetchall()
        return [Delivery(str(id_), message) for id_, message in sorted(rows)]

    def acknowledge(self, tokens: Sequence[str]) -> None:
        """See `EventBus.acknowledge`."""
        with _available(), self._connections.transaction() as db:
            db.executemany("DELETE FROM queue WHERE id = ?", [(int(token),) for token in tokens])

    def depth(self) -> int:
        """See `EventBus.depth`."""
        with _available():
            row = self._connections.own.execute("SELECT count(*) FROM queue").fetchone()
        return int(row[0])

    def erase(self, is_theirs: Callable[[bytes], bool]) -> int:
        """See `EventBus.erase`; the bytes are gone from the file too."""
        with _available():
            rows = self._connections.own.execute("SELECT id, message FROM queue")
            theirs = [str(id_) for id_, message in rows if is_theirs(message)]
            self.acknowledge(theirs)
            self._connections.scrub()
        return len(theirs)

    def close(self) -> None:
        """See `EventBus.close`."""
        self._connections.close()


@contextmanager
def _available() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UnavailableError(f"queue: SQLite does not answer: {error}") from error
