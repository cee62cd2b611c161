"""What a person should know of the rows of one raw table: refused ones, and how text was read."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from taiji.config.sources import TablesSource
from taiji.data.problems import Problem
from taiji.data.tables.misfits import Opened, column_of
from taiji.data.tables.rules import SAME_ROW, Mapped, Rule


def row_problems(
    one: Opened,
    mapped: Mapped,
    counts: Mapping[str, int],
    source: TablesSource,
    refused: pa.Table,
) -> Iterator[Problem]:
    """What a person should know of the refused rows of one raw table."""
    total = sum(counts.values())
    rules = {rule.fault: rule for rule in mapped.rules}
    samples = defaultdict(list)
    for row in refused.to_pylist():
        if row["number"] == one.view.number:
            samples[row["reason"]].append(_sample(row))
    for reason, num_rows in counts.items():
        if not reason.startswith("E"):
            continue
        field, mend = _blame(reason, rules)
        column = column_of(one.section, field)
        where = f"{one.label}: {one.name}.{field}" + (f" (column {column})" if column else "")
        code, _, what = reason.partition(" ")
        allowed = source.allow.get(one.name, {}).get(code, source.tolerance)
        fatal = num_rows > allowed * total and not reason.endswith(SAME_ROW)
        if fatal:
            mend = f"{mend}; or allow it: {_allowance(one.name, code, num_rows / total)}"
        shown = tuple(samples[reason])
        yield Problem(code, where, what, mend, fatal, num_rows, total, shown)
    yield from _of_reading(one)


def _of_reading(one: Opened) -> Iterator[Problem]:
    """What a person should know of how text was read."""
    if one.reading.num_replaced:
        what = f"{one.reading.num_replaced:,} characters are no {one.section.encoding}, now U+FFFD"
        shown = (one.reading.first_replaced,)
        mend = "set encoding, such as latin-1 or cp1252, or correct the file"
        yield Problem("W210", one.label, what, mend, fatal=False, samples=shown)
    if one.reading.num_backslashes:
        what = f"{one.reading.num_backslashes:,} quotes stand behind a backslash"
        mend = "if backslashes take away a quote's meaning, set escape to a backslash"
        yield Problem("W215", one.label, what, mend, fatal=False)
    for column, file in one.reading.some_files.items():
        what = f"no row of {file} has {column}, which other files have: it is empty there"
        yield Problem("W216", one.label, what, "is it called otherwise?", fatal=False)


def _allowance(table: str, code: str, share: float) -> str:
    """The setting under which so many rows may go, in whole per cent."""
    return f"data.source.allow.{table}.{code}={math.ceil(100 * share) / 100:g}"


def _blame(reason: str, rules: Mapping[str, Rule]) -> tuple[str, str]:
    if reason in rules:
        return rules[reason].field, rules[reason].mend
    if reason.startswith("E105"):
        return reason.split(" ")[2].rstrip(","), "keep one row of each"
    return "files", "mend the row, or set separator and quote to what the file has"


def _sample(row: dict[str, Any]) -> str:
    """Where a refused row stood, and what stood there."""
    place = "" if row["row"] is None else f"{row['file']} row {row['row']}"
    if not place and row["key"] is not None:
        place = f"key {row['key']!r}"
    value = "" if row["value"] in (None, row["key"]) and place else repr(row["value"])[:60]
    return " ".join(part for part in (place, value) if part)
