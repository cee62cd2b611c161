"""JSON lines, rewritten as Parquet of strings; a line that is no object is counted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from taiji.config.mapping import RawTable
from taiji.config.mapping_fields import ExplodeSection
from taiji.data.tables.blocks import Reading, text_blocks, unusable
from taiji.data.tables.text_files import Staged

PART, INNER = "\x1e", "\x1f"
"""Between the parts of an exploded JSON value, and inside one: signs that no text should hold."""

_ROWS = 10_000
_MOST_NESTED = 200  # names of nested columns that are looked for, for hints alone


def rewrite_jsonl(raw: RawTable, reading: Reading, staged: Staged) -> set[str]:
    """Write the rows of one file; return the columns that some row has.

    A column `a.b` is the value under the key `a.b`, or else under `b` in the object under `a`. The
    column of `explode` becomes text between `PART` and `INNER`.

    Raises:
        UnusableError: The file is JSON, and not one object a line.
    """
    path, names = staged.path, list(staged.names)
    keys = {name: name.split(".") for name in names}
    types = {name: pa.list_(pa.string()) if staged.is_list(name) else pa.string() for name in names}
    found: set[str] = set()
    columns: dict[str, list[Any]] = {name: [] for name in names}
    numbers: list[int] = []

    def flush() -> None:
        staged.write({name: pa.array(columns[name], types[name]) for name in names}, numbers)
        for values in (*columns.values(), numbers):
            values.clear()

    for number, line in enumerate(_lines(text_blocks(path, raw.encoding, reading)), start=1):
        if not line.strip():
            continue
        row = _json_object(line)
        if row is None:
            if not found:
                _refuse_other_json(path, line)
            reading.refuse(path.name, number, "E102 line is no JSON object", line)
            continue
        found |= row.keys()
        if len(found) < _MOST_NESTED:
            found |= _nested_names(row)
        values = {name: _dig(row, name, keys[name]) for name in names}
        found |= {name for name, value in values.items() if value is not _ABSENT}
        if raw.explode is not None and raw.explode.column in values:
            values[raw.explode.column] = _parts_text(values[raw.explode.column], raw.explode)
        nested = [name for name in names if _is_nested(values[name], staged.is_list(name))]
        if nested:
            reason = f"E102 {', '.join(nested)} holds nested values"
            reading.refuse(path.name, number, reason, line)
            continue
        for name, value in values.items():
            text = _json_text(value, staged.is_list(name), reading, f"{path}, line {number}")
            columns[name].append(text)
        numbers.append(number)
        if len(numbers) == _ROWS:
            flush()
    flush()
    return found


def _lines(blocks: Iterator[str]) -> Iterator[str]:
    return (line for block in blocks for line in block.removesuffix("\n").split("\n"))


_ABSENT = object()


def _json_object(line: str) -> dict[str, Any] | None:
    """Numbers stay the text that they are in the file."""
    try:
        row = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
    except (json.JSONDecodeError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _refuse_other_json(path: Path, line: str) -> None:
    """Before any object was read: is this JSON of another shape?"""
    start = line.strip()
    if start.startswith("["):
        mend = "write one object a line, as `jq -c '.[]'` does"
        raise unusable("E102", path, "is a JSON array, not JSON lines", mend)
    if start == "{":
        mend = "write one object a line, as `jq -c .` does"
        raise unusable("E102", path, "spreads an object over several lines", mend)


def _nested_names(row: dict[str, Any]) -> set[str]:
    """`a.b` for every `b` in an object under `a`, so that a column can be told where it stands."""
    return {f"{key}.{inner}" for key, value in row.items() if isinstance(value, dict)
            for inner in value}  # fmt: skip


def _parts_text(value: Any, explode: ExplodeSection) -> Any:
    """A list, or a text that is to be cut, as text between `PART` and `INNER`.

    Whatever holds deeper values stays as it is, to be refused as nested.
    """
    if isinstance(value, str):
        value = [part.split(explode.inner) for part in value.split(explode.separator)]
    if not isinstance(value, list):
        return value
    parts = []
    for part in value:
        one = part
        if isinstance(part, dict):
            one = [_dig(part, name, name.split(".")) for name in explode.names]
        cells = one if isinstance(one, list) else [one]
        if any(isinstance(cell, dict | list) for cell in cells):
            return value
        parts.append(INNER.join(map(_cell, cells)))
    return PART.join(parts)


def _cell(value: Any) -> str:
    if value is _ABSENT or value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace(PART, "\ufffd").replace(INNER, "\ufffd")


def _dig(row: Any, name: str, keys: list[str]) -> Any:
    if name in row:
        return row[name]
    for key in keys:
        if not isinstance(row, dict) or key not in row:
            return _ABSENT
        row = row[key]
    return row


def _is_nested(value: Any, is_list: bool) -> bool:
    """Whether a value is no word, and where lists are asked for, no list of words."""
    if is_list and isinstance(value, list):
        return any(isinstance(part, dict | list) for part in value)
    return isinstance(value, dict | list)


def _json_text(value: Any, is_list: bool, reading: Reading, where: str) -> Any:
    if value is _ABSENT or value is None:
        return None
    if is_list:
        parts = value if isinstance(value, list) else [value]
        return [_json_text(part, False, reading, where) for part in parts]
    if isinstance(value, str):
        return reading.repaired(value, where)
    return json.dumps(value)
