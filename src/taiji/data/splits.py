"""Who and when: the windows of the year, the held-out users, hashes that never change.

Why five windows: the ranking model learns from weeks in which no language model was trained,
or its training features would know the labels and its test features would not; and the
reward's ranking model never sees the weeks that judge.

Two hashes, neither of which sees a label: BLAKE2b for a handful of keys in Python, and MD5
inside DuckDB, where a Python call for each of eleven million rows would take minutes. Both
are defined by standards, so a draw is the same on every machine and version; DuckDB's own
`hash()` makes no such promise.
"""

import hashlib
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

WEEKS = {
    "history": (1, 8),
    "reward": (9, 32),
    "rl": (33, 38),
    "ranker": (39, 46),
    "test": (47, 53),
}
"""First and last week of each window."""

TARGET_SPLITS = {"reward": "sft", "rl": "rl", "test": "test"}
"""Windows whose baskets become targets, and the split that they feed."""

RANK_SPLITS = {"rank_train": "ranker", "rank_test": "test"}
"""Splits that only ask for features, and the window before which they look back."""

TIMEZONE = "America/New_York"
_MONDAY_OF_WEEK_1 = date(2016, 12, 26)


def week_start(week: int) -> datetime:
    """Return the first moment of `week` in UTC: Monday, midnight where the shops are."""
    monday = _MONDAY_OF_WEEK_1 + timedelta(weeks=week - 1)
    return datetime.combine(monday, time(), ZoneInfo(TIMEZONE)).astimezone(UTC)


def window_start(window: str) -> datetime:
    """Return the first moment of a window of `WEEKS`."""
    return week_start(WEEKS[window][0])


def windows_sql() -> str:
    """Return a relation of every week: `week`, `window_name`, `starts`, `ends` in plain UTC."""
    rows = [
        f"({week}, '{name}', {_literal(week_start(week))}, {_literal(week_start(week + 1))})"
        for name, (first, last) in WEEKS.items()
        for week in range(first, last + 1)
    ]
    return f"(VALUES {', '.join(rows)}) AS weeks(week, window_name, starts, ends)"


def stable_share(key: str, salt: str) -> float:
    """Map a key to [0, 1), uniformly, for good: 64 bits of BLAKE2b."""
    digest = hashlib.blake2b(f"{salt}|{key}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


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
    return f"left({hash_sql(salt, *columns)}, 8) < '{bound:08x}'"


def _literal(moment: datetime) -> str:
    return f"TIMESTAMP '{moment:%Y-%m-%d %H:%M:%S}'"
