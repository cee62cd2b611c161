"""CSV, rewritten as Parquet of strings; what does not parse is counted.

A row is told by its file and number: the header is row 1 and blank lines do not count. The columns
of the Parquet have names of our own (`staged`): a file may call a column what it likes. JSON lines
are read by `taiji.data.tables.json_lines`.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from taiji.config.mapping import RawTable
from taiji.data.tables.blocks import BLOCK_BYTES, Reading, text_blocks, unusable

FILE, ROW = "file", "row"

_STAND_IN = "\x1f"  # for a separator that is not one byte


class Staged:
    """Where rewritten rows of one file go, under names of our own.

    Args:
        path: The file that is read.
        names: Its column -> its name in the Parquet.
        writer: Of the schema with these names, `FILE` and `ROW`.
    """

    def __init__(self, path: Path, names: Mapping[str, str], writer: pq.ParquetWriter) -> None:
        self.path = path
        self.names = names
        self._writer = writer

    def is_list(self, column: str) -> bool:
        """Whether the values of a column are lists."""
        return bool(pa.types.is_list(self._writer.schema.field(self.names[column]).type))

    def write(self, columns: Mapping[str, pa.Array], numbers: Sequence[int]) -> None:
        """Write rows; a column that is not given is null."""
        known = {self.names[column]: values for column, values in columns.items()}
        known[FILE] = pa.repeat(self.path.name, len(numbers))
        known[ROW] = pa.array(numbers, pa.int64())
        schema = self._writer.schema
        arrays = [
            known[column.name].cast(column.type)
            if column.name in known
            else pa.nulls(len(numbers), column.type)
            for column in schema
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def rewrite_csv(raw: RawTable, reading: Reading, staged: Staged) -> set[str]:
    """Write the rows of one file; return the columns that the file has.

    Raises:
        UnusableError: The file is empty, or two columns that are read share a name.
    """
    path = staged.path
    separator = raw.separator or ("\t" if ".tsv" in map(str.lower, path.suffixes) else ",")
    delimiter = separator if len(separator.encode()) == 1 else _STAND_IN
    stream = _Blocks(_prepared(text_blocks(path, raw.encoding, reading), raw, separator, reading))
    if not raw.names and stream.exhausted():
        raise unusable("E101", path, "is empty", "a header is needed, or set names")
    names = list(raw.names or _header(stream, delimiter, raw))
    found = [name for name in staged.names if name in names]
    if twice := [name for name in found if names.count(name) > 1]:
        what = f"two columns are called {', '.join(twice)}"
        raise unusable("E101", path, what, "rename one")
    if not found or stream.exhausted():
        return set(names)
    skipped: list[int] = []
    first_row = 1 if raw.names else 2

    def refuse(row: Any) -> str:
        skipped.append(row.number + first_row - 1)
        reason = f"E102 row has {row.actual_columns} columns instead of {row.expected_columns}"
        reading.refuse(path.name, skipped[-1], reason, row.text.replace(_STAND_IN, separator))
        return "skip"

    places = {name: str(names.index(name)) for name in found}
    table = pyarrow.csv.open_csv(
        stream,
        pyarrow.csv.ReadOptions(
            use_threads=False,
            block_size=BLOCK_BYTES,
            column_names=[str(place) for place in range(len(names))],
        ),
        pyarrow.csv.ParseOptions(
            delimiter=delimiter,
            quote_char=raw.quote or False,
            escape_char=raw.escape or False,
            newlines_in_values=bool(raw.quote),
            invalid_row_handler=refuse,
        ),
        pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(places.values(), pa.string()),
            include_columns=list(places.values()),
        ),
    )
    rows = _row_numbers(skipped, first_row)
    for batch in table:
        columns = {name: batch.column(place) for name, place in places.items()}
        if delimiter != separator:  # one that stood inside quotes separates nothing
            columns = {
                name: pc.replace_substring(values, _STAND_IN, separator)
                for name, values in columns.items()
            }
        staged.write(columns, [next(rows) for _ in range(batch.num_rows)])
    return set(names)


def _prepared(
    blocks: Iterator[str], raw: RawTable, separator: str, reading: Reading
) -> Iterator[str]:
    """Text in which one byte separates columns; backslashes before quotes are counted."""
    is_long = len(separator.encode()) > 1
    counted = bool(raw.quote) and not raw.escape
    for block in blocks:
        if counted:
            reading.num_backslashes += block.count("\\" + raw.quote)
        if is_long:
            if _STAND_IN in block:
                reading.num_replaced += block.count(_STAND_IN)
                block = block.replace(_STAND_IN, "\ufffd")
            block = block.replace(separator, _STAND_IN)
        yield block


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


def _header(stream: _Blocks, delimiter: str, raw: RawTable) -> list[str]:
    line = stream.first_line().decode().rstrip("\r")
    if not raw.quote:
        return [name.strip() for name in line.split(delimiter)]
    rows = csv.reader([line], delimiter=delimiter, quotechar=raw.quote, escapechar=raw.escape)
    return [name.strip() for name in next(rows, [])]


def _row_numbers(skipped: list[int], first: int) -> Iterator[int]:
    """Numbers of the rows that were kept; `skipped` grows as rows are read, in their order."""
    number, next_skipped = first, 0
    while True:
        if next_skipped < len(skipped) and skipped[next_skipped] == number:
            next_skipped += 1
        else:
            yield number
        number += 1
