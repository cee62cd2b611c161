"""The log of what came in since the run: events by user, and the users who wait for a refresh.

One SQLite file that all workers of a machine share. An event is in it once, whatever the queue
does. A user waits from the first event that their features do not know; the wait ends when features
are written that know all of them. Figures of the work are counted here too, by minute, so that a
killed worker takes none of them along.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taiji.serving.events import Event
from taiji.serving.past import SELECT, Past, read_past
from taiji.store.sqlite_files import Connections

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    table_name TEXT NOT NULL,
    user_id TEXT NOT NULL,
    ts INTEGER NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    order_id TEXT NOT NULL,
    amount REAL,
    price REAL,
    line INTEGER,
    note TEXT
);
CREATE INDEX IF NOT EXISTS events_by_user ON events (user_id);
CREATE TABLE IF NOT EXISTS waiting (
    user_id TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    first_arrival REAL NOT NULL,
    last_arrival REAL NOT NULL,
    value REAL NOT NULL,
    held_until REAL NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS figures (
    minute INTEGER NOT NULL,
    name TEXT NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (minute, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
"""

_INSERT = """
INSERT OR IGNORE INTO events
    (event_id, table_name, user_id, ts, kind, subject, order_id, amount, price, line, note)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_WAIT = """
INSERT INTO waiting (user_id, position, first_arrival, last_arrival, value) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (user_id) DO UPDATE SET
    position = excluded.position,
    last_arrival = excluded.last_arrival,
    value = value + excluded.value
"""

# Who is quiet, or has waited long enough; whoever waits longest with most goes first.
_CLAIM = """
UPDATE waiting SET held_until = :held, attempts = attempts + 1
WHERE user_id IN (
    SELECT user_id FROM waiting
    WHERE held_until <= :now AND (last_arrival <= :quiet OR first_arrival <= :late)
    ORDER BY (:now - first_arrival + 1) * value DESC, user_id
    LIMIT :most
)
RETURNING user_id, position, first_arrival, attempts
"""

_COUNT = """
INSERT INTO {table} VALUES ({marks}) ON CONFLICT DO UPDATE SET value = value + excluded.value
"""

_KEPT_MINUTES = 24 * 60


@dataclass(frozen=True)
class Waiting:
    """A user whose features are to be made anew.

    Attributes:
        position: Of the last event that they wait with.
        since: When the first of them arrived, in seconds since 1970.
        attempts: How often they were begun, this time included.
    """

    user_id: str
    position: int
    since: float
    attempts: int


class EventLog:
    """See the head of this file.

    Args:
        path: The file; made if it is not there.
        kind_values: Worth of an event by its kind, 1 if not named.
    """

    def __init__(self, path: Path, kind_values: Mapping[str, float]) -> None:
        self._connections = Connections(path, _SCHEMA, timeout_seconds=30.0)
        self._values = kind_values

    def append(self, events: Sequence[Event]) -> int:
        """Take events in, each once, and have their users wait; return how many were new."""
        now, new = time.time(), 0
        with self._connections.transaction() as db:
            for e in events:
                row = (e.event_id, e.table, e.user_id, e.ts, e.kind, e.subject, e.order_id)
                cursor = db.execute(_INSERT, (*row, e.amount, e.price, e.line, e.note))
                if cursor.rowcount:
                    new += 1
                    worth = self._values.get(e.kind, 1.0)
                    db.execute(_WAIT, (e.user_id, cursor.lastrowid, now, now, worth))
        return new

    def claim(self, most: int, *, debounce: float, max_delay: float, lease: float) -> list[Waiting]:
        """Take users whose turn it is; whoever dies with them loses them after `lease` seconds.

        Args:
            most: At most so many.
            debounce: Seconds of quiet after a user's last event.
            max_delay: Seconds after a user's first event when quiet is no longer waited for.
            lease: Seconds.
        """
        now = time.time()
        moments = {"now": now, "quiet": now - debounce, "late": now - max_delay}
        with self._connections.transaction() as db:
            settings = {**moments, "held": now + lease, "most": most}
            return [Waiting(*row) for row in db.execute(_CLAIM, settings).fetchall()]

    def done(self, positions: Mapping[str, int]) -> None:
        """These users' features know all events up to a position; who has later ones waits on."""
        with self._connections.transaction() as db:
            rows = [(user, position) for user, position in positions.items()]
            db.executemany("DELETE FROM waiting WHERE user_id = ? AND position <= ?", rows)
            db.executemany(
                "UPDATE waiting SET held_until = 0, attempts = 0, first_arrival = last_arrival "
                "WHERE user_id = ?",
                [(user,) for user in positions],
            )

    def put_back(self, users: Sequence[str], seconds: float) -> None:
        """These users' turn did not succeed, and comes again after some seconds."""
        later = time.time() + seconds
        with self._connections.transaction() as db:
            db.executemany(
                "UPDATE waiting SET held_until = ? WHERE user_id = ?", [(later, u) for u in users]
            )

    def await_everyone(self) -> int:
        """Have every user of the log wait, because a new version knows nothing of them."""
        now = time.time()
        with self._connections.transaction() as db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO waiting (user_id, position, first_arrival, last_arrival, "
                "value) SELECT user_id, max(position), ?, ?, 1 FROM events GROUP BY user_id",
                (now, now),
            )
        return cursor.rowcount

    def past(self, users: Sequence[str]) -> Past:
        """All events of these users."""
        marks = ",".join("?" * len(users))
        sql = f"{SELECT} WHERE user_id IN ({marks}) ORDER BY position"
        return read_past(self._connections.own.execute(sql, list(users)).fetchall())

    def pages(self, most: int) -> Iterator[Past]:
        """All events, at most so many at once; those that were seen may be dropped meanwhile."""
        last = 0
        sql = f"{SELECT} WHERE position > ? ORDER BY position LIMIT ?"
        while rows := self._connections.own.execute(sql, (last, most)).fetchall():
            yield read_past(rows)
            last = rows[-1][1]

    def drop(self, positions: Sequence[int]) -> int:
        """Let go of events; their users wait on if they wait. Return how many there were."""
        with self._connections.transaction() as db:
            rows = [(position,) for position in positions]
            return db.executemany("DELETE FROM events WHERE position = ?", rows).rowcount

    def num_waiting(self) -> int:
        """Users who wait."""
        row = self._connections.own.execute("SELECT count(*) FROM waiting").fetchone()
        return int(row[0])

    def longest_wait(self) -> float:
        """Seconds since the first event that nobody's features know yet; 0 if there is none."""
        row = self._connections.own.execute("SELECT min(first_arrival) FROM waiting").fetchone()
        return 0.0 if row[0] is None else max(0.0, time.time() - row[0])

    def count(self, figures: Mapping[str, float]) -> None:
        """Add to figures of this minute, and to their totals."""
        minute = int(time.time() // 60)
        with self._connections.transaction() as db:
            for name, value in figures.items():
                db.execute(_COUNT.format(table="figures", marks="?, ?, ?"), (minute, name, value))
                db.execute(_COUNT.format(table="totals", marks="?, ?"), (name, value))
            db.execute("DELETE FROM figures WHERE minute < ?", (minute - _KEPT_MINUTES,))

    def gauge(self, figures: Mapping[str, float]) -> None:
        """Set figures that are not added up."""
        minute = int(time.time() // 60)
        with self._connections.transaction() as db:
            for name, value in figures.items():
                db.execute("INSERT OR REPLACE INTO figures VALUES (?, ?, ?)", (minute, name, value))
                db.execute("INSERT OR REPLACE INTO totals VALUES (?, ?)", (name, value))

    def reserve_tokens(self, tokens: int, limit: int) -> bool:
        """Take tokens out of this minute's budget, if they are still in it."""
        minute = int(time.time() // 60)
        with self._connections.transaction() as db:
            key = (minute, "tokens")
            row = db.execute(
                "SELECT value FROM figures WHERE minute = ? AND name = ?", key
            ).fetchone()
            spent = 0.0 if row is None else row[0]
            if spent and spent + tokens > limit:  # a request beyond the limit goes alone
                return False
            db.execute(_COUNT.format(table="figures", marks="?, ?, ?"), (*key, tokens))
            db.execute(_COUNT.format(table="totals", marks="?, ?"), ("tokens", tokens))
        return True

    def totals(self) -> dict[str, float]:
        """All figures, added up since the log began."""
        return dict(self._connections.own.execute("SELECT name, value FROM totals").fetchall())

    def minutes(self, num_minutes: int = 180) -> Iterator[tuple[int, str, float]]:
        """Minute since 1970, name and value of the figures of late."""
        first = int(time.time() // 60) - num_minutes
        yield from self._connections.own.execute(
            "SELECT minute, name, value FROM figures WHERE minute >= ? ORDER BY minute", (first,)
        ).fetchall()

    def erase(self, user_id: str) -> int:
        """Forget a user; return how many events they had. No byte of them stays in the file."""
        with self._connections.transaction() as db:
            db.execute("DELETE FROM waiting WHERE user_id = ?", (user_id,))
            num = db.execute("DELETE FROM events WHERE user_id = ?", (user_id,)).rowcount
        self._connections.scrub()
        return num

    def close(self) -> None:
        """Let go of the file."""
        self._connections.close()
