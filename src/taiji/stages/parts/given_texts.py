"""`infer.texts_from`: texts that exist already, one's own model's or a provider's.

A file of user, time and text, JSON lines or Parquet. A text serves the moments at and after its
time, so that what it may have read lies before whatever it serves; of several the newest by then
counts. Every row that cannot be used is named, and nothing is used of a file with such rows.
"""

import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from taiji.data.ids import meeting, plain_ids, require_met
from taiji.errors import DataError
from taiji.language.completions import parse_completion
from taiji.ranking.columns import microseconds
from taiji.ranking.serving import serving_texts
from taiji.schema import TEXTS, TIME
from taiji.store.files import read_parquet

GIVEN = pa.schema(
    [
        pa.field("user", pa.string(), nullable=False),
        pa.field("time", TIME, nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)
MODEL = "policy"
"""Given texts stand where the policy's would, so that every arm and table knows them."""

_MOST_NAMED = 5
_ROWS_AT_A_TIME = 1 << 15
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
"""What JSON may spell and UTF-8 cannot hold."""
_FORM = '{"user": "u1", "time": "2024-05-01T00:00:00Z", "text": "..."}'

_log = logging.getLogger(__name__)


def read_given(path: Path) -> pa.Table:
    """Read a file, by its ending .jsonl or .parquet.

    Raises:
        DataError: It is not there, not of that form, or two texts have one user and time.
    """
    if not path.is_file():
        raise DataError(f"infer.texts_from: {path}: no such file")
    if path.suffix == ".parquet":
        table = read_parquet(path, GIVEN)
    elif path.suffix == ".jsonl":
        table = _read_lines(path)
    else:
        raise DataError(f"infer.texts_from: {path}: ends in neither .jsonl nor .parquet")
    users = plain_ids(table["user"], f"infer.texts_from: {path}: user")
    table = table.set_column(0, GIVEN.field("user"), users)
    pairs = table.group_by(["user", "time"]).aggregate([([], "count_all")])
    if pairs.num_rows < table.num_rows:
        raise DataError(f"infer.texts_from: {path}: two texts of one user and time: keep one")
    return table


def _read_lines(path: Path) -> pa.Table:
    rows, faults = [], []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        found = _row(line)
        if isinstance(found, str):
            faults.append(f"infer.texts_from: {path}, line {number}: {found}")
        else:
            rows.append(found)
    if faults:
        more = len(faults) - _MOST_NAMED
        shown = faults[:_MOST_NAMED] + ([f"... and {more} more"] if more > 0 else [])
        raise DataError("\n".join([*shown, f"a line is {_FORM}"]))
    return pa.Table.from_pylist(rows, GIVEN)


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            yield from stream
    except UnicodeDecodeError as error:
        raise DataError(f"infer.texts_from: {path}: not UTF-8 ({error})") from error


def _row(line: str) -> dict[str, Any] | str:
    """The row of a line, or what is wrong with it."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        return f"not JSON ({error})"
    if not isinstance(row, dict):
        return f"holds a {type(row).__name__}"
    for name in ("user", "text", "time"):
        if not isinstance(row.get(name), str):
            return f"{name}: {row.get(name)!r}: needs text"
        if half := _HALF_CHARACTER.search(row[name]):
            where = f"{name}: {half.group()!r} at character {half.start() + 1}"
            return f"{where}: half of a pair: write the whole character, or leave it out"
    time = _utc(row["time"])
    if isinstance(time, str):
        return f"time: {row['time']!r}: {time}"
    return {"user": row["user"], "time": time, "text": row["text"]}


def _utc(told: str) -> datetime | str:
    """The moment, or what is wrong with it."""
    try:
        time = datetime.fromisoformat(told)
    except ValueError:
        return "needs a form such as 2024-05-01T00:00:00Z"
    if time.tzinfo is None:
        return "has no time zone: write 2024-05-01T00:00:00Z"
    try:
        return time.astimezone(UTC)
    except OverflowError:
        return "in UTC outside of the years 1 to 9999: write one such as 2024-05-01T00:00:00Z"


def given_texts(given: pa.Table, examples: pa.Table) -> Iterator[pa.Table]:
    """One row of `schema.TEXTS` for each example, some at a time; without a text it is empty.

    Args:
        given: Rows of `GIVEN`.
        examples: example_id, user_id and cutoff of the ranking users.

    Raises:
        DataError: No example has a text.
    """
    asked = examples["user_id"].to_numpy(zero_copy_only=False)
    cutoffs = microseconds(examples["cutoff"])
    serving = serving_texts(given["user"].to_pylist(), microseconds(given["time"]), asked, cutoffs)
    found = int((serving >= 0).sum())
    if not found:
        raise DataError(
            f"infer.texts_from: none of {given.num_rows} texts serves a ranking user: a text is "
            "needed from before the windows ranker and test begin, of a user that the log knows "
            "and that data.num_rank_users draws"
        )
    met = meeting(("users with a text", given["user"]), ("ranking users", examples["user_id"]))
    require_met(met.problem("infer.texts_from: user", "write the ids as the log does"))
    _log.info("infer.texts_from: %d of %d moments have a text", found, examples.num_rows)
    served = pa.array(np.where(serving >= 0, serving, 0), mask=serving < 0)
    for start in range(0, examples.num_rows, _ROWS_AT_A_TIME):
        names = examples["example_id"].slice(start, _ROWS_AT_A_TIME).to_pylist()
        texts = given["text"].take(served.slice(start, _ROWS_AT_A_TIME)).to_pylist()
        rows = [_text_row(name, text or "") for name, text in zip(names, texts, strict=True)]
        yield pa.Table.from_pylist(rows, TEXTS)


def _text_row(example_id: str, text: str) -> dict[str, Any]:
    parsed = parse_completion(text)
    return {
        "example_id": example_id,
        "model": MODEL,
        "status": parsed.status,
        "completion": text,
        "cot": parsed.cot,
        "answer": parsed.answer,
    }
