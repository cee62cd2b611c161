"""SQLite files that threads and processes share: write-ahead log, every commit on disk.

What is deleted is overwritten (`secure_delete`), so that an erased user is in no byte of a file.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Connections:
    """One connection a thread to one file.

    Args:
        path: The file; made, with its folder, for its owner alone.
        schema: Statements that make what is not there.
        timeout_seconds: How long a writer waits for another.
    """

    def __init__(self, path: Path, schema: str, timeout_seconds: float = 30.0) -> None:
        self._path = path
        self._timeout = timeout_seconds
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        self.own.executescript(schema)

    @property
    def own(self) -> sqlite3.Connection:
        """This thread's connection. Statements outside of `transaction` commit by themselves."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            self._local.connection = connection
            with self._lock:
                self._all.append(connection)
        return connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; the lock is taken at once, so that what is read may be written."""
        connection = self.own
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def scrub(self) -> None:
        """Bring the write-ahead log into the file and empty it: old pages are gone after this."""
        self.own.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
        self._local = threading.local()
