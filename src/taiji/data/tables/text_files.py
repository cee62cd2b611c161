"""CSV and JSON lines, rewritten as Parquet of strings; what does not parse is counted.

A row is told by its file and number: in CSV the header is row 1 and blank lines do not count,
in JSON lines every line counts.
"""

import codecs
import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from taiji.config.mapping import RawTable
from taiji.data.problems import MOST_KEPT, Problem, UnusableError

FILE, ROW = "_file", "_row"

_BLOCK_BYTES = 16 << 20
_ROWS = 10_000
_SURROGATES = re.compile("[\ud800-\udfff]")
_STAND_IN = "\x1f"  # for a separator of several characters


@dataclass(frozen=True)
class BrokenRow:
    """A row that does not parse: where it stood, why, how it begins, how many of its kind."""

    file: str
    row: int
    reason: str
    text: str
    place: int


@dataclass
class Reading:
    """What a pass over text files met.

    Attributes:
        num_broken: Rows that do not parse, by reason.
        broken: The first of them.
        num_replaced: Characters that became U+FFFD.
        first_replaced: File and line of the first of those.
    """

    num_broken: dict[str, int] = field(default_factory=dict)
    broken: list[BrokenRow] = field(default_factory=list)
    num_replaced: int = 0
    first_replaced: str = ""

    def refuse(self, file: str, row: int, reason: str, text: str) -> None:
        """Count a row that does not parse."""
        self.num_broken[reason] = place = self.num_broken.get(reason, 0) + 1
        if place <= MOST_KEPT:
            self.broken.append(BrokenRow(file, row, reason, text[:200], place))

    def repaired(self, text: str, where: str) -> str:
        """Put U+FFFD where `text` has a lone surrogate, and count them."""
        clean, number = _SURROGATES.subn("\ufffd", text)
        if number:
            self.first_replaced = self.first_replaced or where
            self.num_replaced += number
        return clean


def rewrite_csv(
    path: Path, raw: RawTable, schema: pa.Schema, reading: Reading, writer: pq.ParquetWriter
) -> set[str]:
    """Write the rows of one file; return the columns that the file has."""
    separator = raw.separator or ("\t" if ".tsv" in path.suffixes else ",")
    delimiter = separator if len(separator) == 1 else _STAND_IN
    blocks = _blocks(path, raw.encoding, reading)
    if delimiter != separator:
        blocks = (block.replace(separator, delimiter) for block in blocks)
    stream = _Blocks(blocks)
    names = list(raw.names or _header(stream, delimiter, raw.quote))
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        what, mend = f"two columns are called {', '.join(twice)}", "rename one"
        raise UnusableError(Problem("E101", str(path), what, mend, fatal=True))
    found = [name for name in schema.names if name in names]
    skipped: list[int] = []
    first_row = 1 if raw.names else 2

    def refuse(row: Any) -> str:
        skipped.append(row.number + first_row - 1)
        reason = f"E102 row has {row.actual_columns} columns instead of {row.expected_columns}"
        reading.refuse(path.name, skipped[-1], reason, row.text)
        return "skip"

    if not found or stream.exhausted():
        return set(names)
    table = pyarrow.csv.open_csv(
        stream,
        pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES, column_names=names),
        pyarrow.csv.ParseOptions(
            delimiter=delimiter,
            quote_char=raw.quote or False,
            newlines_in_values=bool(raw.quote),
            invalid_row_handler=refuse,
        ),
        pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(found, pa.string()), include_columns=found
        ),
    )
    rows = _row_numbers(skipped, first_row)
    for batch in table:
        numbers = [next(rows) for _ in range(batch.num_rows)]
        writer.write_table(_complete(batch, path.name, numbers, schema))
    return set(names)


def rewrite_jsonl(
    path: Path, raw: RawTable, schema: pa.Schema, reading: Reading, writer: pq.ParquetWriter
) -> set[str]:
    """Write the rows of one file; return the columns that some row has.

    A column `a.b` is the value under `b` in the object under `a`.
    """
    names = [name for name in schema.names if name not in (FILE, ROW)]
    keys = {name: name.split(".") for name in names}
    lists = {name for name in names if pa.types.is_list(schema.field(name).type)}
    found: set[str] = set()
    columns: dict[str, list[Any]] = {name: [] for name in names}
    numbers: list[int] = []

    def flush() -> None:
        arrays = [pa.array(columns[name], schema.field(name).type) for name in names]
        batch = pa.RecordBatch.from_arrays(arrays, names=names)
        writer.write_table(_complete(batch, path.name, numbers, schema))
        for values in (*columns.values(), numbers):
            values.clear()

    blocks = _blocks(path, raw.encoding, reading)
    lines = (line for block in blocks for line in block.removesuffix("\n").split("\n"))
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _json_object(line)
        if row is None:
            reading.refuse(path.name, number, "E102 line is no JSON object", line)
            continue
        where = f"{path}, line {number}"
        found |= row.keys()
        for name in names:
            value = _dig(row, keys[name])
            if value is not _ABSENT:
                found.add(name)
            columns[name].append(_json_text(value, name in lists, reading, where))
        numbers.append(number)
        if len(numbers) == _ROWS:
            flush()
    flush()
    return found


_ABSENT = object()


def _json_object(line: str) -> dict[str, Any] | None:
    """Numbers stay the text that they are in the file."""
    try:
        row = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
    except (json.JSONDecodeError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _dig(row: Any, keys: list[str]) -> Any:
    for key in keys:
        if not isinstance(row, dict) or key not in row:
            return _ABSENT
        row = row[key]
    return row


def _json_text(value: Any, is_list: bool, reading: Reading, where: str) -> Any:
    if value is _ABSENT or value is None:
        return None
    if is_list:
        parts = value if isinstance(value, list) else [value]
        return [_json_text(part, False, reading, where) for part in parts]
    if isinstance(value, str):
        return reading.repaired(value, where)
    return json.dumps(value)


class _Blocks(io.RawIOBase):
    """Text blocks as a stream of UTF-8."""

    def __init__(self, blocks: Iterator[str]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def exhausted(self) -> bool:
        """Whether nothing is left to read."""
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return True
            self._rest = memoryview(block.encode())
        return False

    def first_line(self) -> bytes:
        """Take the first line that is not blank; a block holds whole lines."""
        while not self.exhausted():
            line, _, rest = bytes(self._rest).partition(b"\n")
            self._rest = memoryview(rest)
            if line.strip():
                return line
        return b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.exhausted():
            return 0
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _header(stream: _Blocks, delimiter: str, quote: str) -> list[str]:
    line = stream.first_line().decode().rstrip("\r")
    if not quote:
        return [name.strip() for name in line.split(delimiter)]
    rows = csv.reader([line], delimiter=delimiter, quotechar=quote)
    return [name.strip() for name in next(rows, [])]


def _blocks(path: Path, encoding: str, reading: Reading) -> Iterator[str]:
    """Yield a file's text, whole lines at a time, without a byte-order mark."""
    decoder = codecs.getincrementaldecoder(encoding)(errors="surrogateescape")
    carried, num_lines, opening = "", 0, True
    with _open(path) as stream:
        while True:
            data = stream.read(_BLOCK_BYTES // 4)
            text = carried + decoder.decode(data, final=not data)
            if opening:
                text, opening = text.removeprefix("\ufeff"), not text
            cut = len(text) if not data else text.rfind("\n") + 1
            block, carried = text[:cut], text[cut:]
            if block:
                where = f"{path}, line {_line_of_fault(block, num_lines)}"
                num_lines += block.count("\n")
                yield reading.repaired(block, where)
            if not data:
                return


def _line_of_fault(block: str, num_before: int) -> int:
    fault = _SURROGATES.search(block)
    return num_before + block.count("\n", 0, fault.start() if fault else 0) + 1


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _row_numbers(skipped: list[int], first: int) -> Iterator[int]:
    """Numbers of the rows that were kept; `skipped` grows as rows are read, in their order."""
    number, next_skipped = first, 0
    while True:
        if next_skipped < len(skipped) and skipped[next_skipped] == number:
            next_skipped += 1
        else:
            yield number
        number += 1


def _complete(batch: pa.RecordBatch, file: str, numbers: list[int], schema: pa.Schema) -> pa.Table:
    """Add what the file does not have: its name, row numbers and absent columns as null."""
    known = {name: batch.column(name) for name in batch.schema.names}
    known |= {FILE: pa.repeat(file, batch.num_rows), ROW: pa.array(numbers, pa.int64())}
    arrays = [
        known[column.name].cast(column.type)
        if column.name in known
        else pa.nulls(batch.num_rows, column.type)
        for column in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
