"""The online store in a file of this machine: SQLite with a write-ahead log, so readers never wait.

A connection a thread; several processes may share the file.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from taiji.errors import ConfigError
from taiji.serving.store.protocol import (
    FOREVER,
    AsOf,
    Found,
    Record,
    Versions,
)
from taiji.serving.unavailable import UnavailableError
from taiji.store.sqlite_files import Connections

_SCHEMA = """
CREATE TABLE IF NOT EXISTS versions (
    version INTEGER PRIMARY KEY AUTOINCREMENT,
    description TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS pointer (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    current INTEGER NOT NULL,
    previous INTEGER
);
CREATE TABLE IF NOT EXISTS records (
    version INTEGER NOT NULL,
    name BLOB NOT NULL,
    event_time INTEGER NOT NULL,
    position INTEGER NOT NULL,
    expires_at REAL NOT NULL,
    blob BLOB NOT NULL,
    PRIMARY KEY (version, name)
) WITHOUT ROWID;
"""

_READ = """
SELECT pointer.current, records.name, records.blob
FROM pointer
LEFT JOIN records
    ON records.version = pointer.current AND records.name IN ({names}) AND records.expires_at > ?
"""

# An expired record is as good as none: whatever comes is newer.
_WRITE = """
INSERT INTO records (version, name, event_time, position, expires_at, blob)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (version, name) DO UPDATE SET
    event_time = excluded.event_time,
    position = excluded.position,
    expires_at = excluded.expires_at,
    blob = excluded.blob
WHERE (excluded.event_time, excluded.position) > (records.event_time, records.position)
    OR records.expires_at <= ?
"""

_NEVER = 1e18  # seconds since 1970


class SqliteStore:
    """See `OnlineStore`.

    Args:
        path: The file; made if it is not there.
        timeout_seconds: How long a writer waits for another.
    """

    def __init__(self, path: Path, timeout_seconds: float = 30.0) -> None:
        self._connections = Connections(path, _SCHEMA, timeout_seconds)

    async def read(self, names: Sequence[bytes]) -> Found:
        """See `OnlineStore.read`: one statement, answered from this machine's page cache."""
        marks = ",".join("?" * len(names))
        with _available():
            rows = self._connections.own.execute(
                _READ.format(names=marks), (*names, time.time())
            ).fetchall()
        if not rows:
            return Found(None, [None] * len(names))
        blobs = {name: blob for _, name, blob in rows if name is not None}
        return Found(rows[0][0], [blobs.get(name) for name in names])

    def write(self, version: int, records: Sequence[Record], ttl_seconds: int) -> list[bool]:
        """See `OnlineStore.write`."""
        now = time.time()
        written = []
        with _available(), self._connections.transaction() as db:
            for record in records:
                lasting = record.as_of >= FOREVER
                row = (
                    version,
                    record.name,
                    *record.as_of,
                    _NEVER if lasting else now + ttl_seconds,
                    record.blob,
                    now,
                )
                written.append(db.execute(_WRITE, row).rowcount > 0)
        return written

    def add_version(self, description: str) -> int:
        """See `OnlineStore.add_version`."""
        with _available(), self._connections.transaction() as db:
            cursor = db.execute("INSERT INTO versions (description) VALUES (?)", (description,))
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def describe(self, version: int, description: str) -> None:
        """See `OnlineStore.describe`."""
        with _available(), self._connections.transaction() as db:
            db.execute(
                "UPDATE versions SET description = ? WHERE version = ?", (description, version)
            )

    def versions(self) -> Versions:
        """See `OnlineStore.versions`."""
        with _available():
            db = self._connections.own
            pointer = db.execute("SELECT current, previous FROM pointer").fetchone()
            described = dict(db.execute("SELECT version, description FROM versions").fetchall())
        current, previous = pointer or (None, None)
        return Versions(current, previous, described)

    def switch(self, version: int) -> None:
        """See `OnlineStore.switch`."""
        with _available(), self._connections.transaction() as db:
            row = db.execute("SELECT current, previous FROM pointer").fetchone()
            if row is not None and row[0] == version:
                return
            previous = None if row is None else row[0]
            db.execute("INSERT OR REPLACE INTO pointer VALUES (1, ?, ?)", (version, previous))
            # Versions that another publisher is filling are younger than both.
            kept = (version, previous if previous is not None else version)
            for table in ("records", "versions"):
                db.execute(
                    f"DELETE FROM {table} WHERE version NOT IN (?, ?) AND version < ?",
                    (*kept, version),
                )

    def rollback(self) -> int:
        """See `OnlineStore.rollback`."""
        with _available(), self._connections.transaction() as db:
            row = db.execute("SELECT current, previous FROM pointer").fetchone()
            if row is None or row[1] is None:
                raise ConfigError("rollback: there is no version before this one")
            current, previous = row
            db.execute("UPDATE pointer SET current = ?, previous = ?", (previous, current))
        return int(previous)

    def erase(self, names: Sequence[bytes], blob: bytes) -> None:
        """See `OnlineStore.erase`; what was there is overwritten in the file too."""
        with _available():
            with self._connections.transaction() as db:
                db.executemany(
                    "INSERT OR REPLACE INTO records SELECT version, ?, ?, ?, ?, ? FROM versions",
                    [(name, *FOREVER, _NEVER, blob) for name in names],
                )
            self._connections.scrub()

    def scan(self, version: int) -> Iterator[Record]:
        """See `OnlineStore.scan`."""
        sql = "SELECT name, event_time, position, blob FROM records WHERE version = ?"
        with _available():
            for name, event_time, position, blob in self._connections.own.execute(sql, (version,)):
                yield Record(name, AsOf(event_time, position), blob)

    def amend(self, version: int, name: bytes, old: bytes, new: bytes) -> bool:
        """See `OnlineStore.amend`."""
        sql = "UPDATE records SET blob = ? WHERE version = ? AND name = ? AND blob = ?"
        with _available(), self._connections.transaction() as db:
            return db.execute(sql, (new, version, name, old)).rowcount > 0

    async def leave_loop(self) -> None:
        """See `OnlineStore.leave_loop`: nothing is held."""

    def close(self) -> None:
        """See `OnlineStore.close`."""
        self._connections.close()


@contextmanager
def _available() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UnavailableError(f"store: SQLite does not answer: {error}") from error
