"""Rows of a Parquet file that stay on disk until they are asked for, a few at a time.

A table of examples holds kilobytes a row, and stages go through it once, in order. So only the
row group that a piece lies in is held.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from taiji.arrays import Ints
from taiji.errors import DataError
from taiji.store.files import conform, read_parquet

_ROWS_AT_A_TIME = 256


class StoredRows:
    """Chosen rows of a file, in a given order.

    Args:
        path: The file.
        schema: Columns that it must have; no others are read.
        places: Which of its rows, and in which order: best that of the file.

    Raises:
        DataError: The file is damaged, or its columns are not those of `schema`.
    """

    def __init__(self, path: Path, schema: pa.Schema, places: Ints) -> None:
        self._path, self._schema, self._places = path, schema, places
        self._file = _opened(path)
        footer = self._file.metadata
        sizes = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
        self._ends = np.cumsum(sizes, dtype=np.int64)
        self._held: tuple[int, pa.Table] = (-1, schema.empty_table())

    @property
    def num_rows(self) -> int:
        """How many rows are chosen."""
        return int(self._places.size)

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of all chosen rows."""
        whole = read_parquet(self._path, pa.schema([self._schema.field(name)]))[name]
        return whole.take(pa.array(self._places))

    def where(self, chosen: Sequence[bool] | pa.ChunkedArray) -> "StoredRows":
        """Those of the rows that a flag for each of them chooses."""
        return StoredRows(self._path, self._schema, self._places[np.asarray(chosen, dtype=bool)])

    def slice(self, offset: int, length: int) -> pa.Table:
        """The rows from a place on, as a table; fewer at the end.

        Raises:
            DataError: The file is damaged.
        """
        return self._read(self._places[offset : offset + length])

    def dicts(self) -> Iterator[dict[str, Any]]:
        """One row after the other.

        Raises:
            DataError: The file is damaged.
        """
        for start in range(0, self.num_rows, _ROWS_AT_A_TIME):
            yield from self.slice(start, _ROWS_AT_A_TIME).to_pylist()

    def take(self, rows: Ints) -> pa.Table:
        """Some of the rows, in the order of their numbers here.

        Raises:
            DataError: The file is damaged.
        """
        return self._read(self._places[rows])

    def _read(self, places: Ints) -> pa.Table:
        """Rows of the file, in the order of `places`."""
        groups = np.searchsorted(self._ends, places, side="right")
        edges = np.flatnonzero(np.diff(groups, prepend=-1, append=-1))
        parts = [self._schema.empty_table()]
        for start, stop in pairwise(edges.tolist()):
            number = int(groups[start])
            first = int(self._ends[number - 1]) if number else 0
            parts.append(self._group(number).take(pa.array(places[start:stop] - first)))
        return pa.concat_tables(parts)

    def _group(self, number: int) -> pa.Table:
        if self._held[0] != number:
            try:
                table = self._file.read_row_group(number, columns=self._schema.names)
            except (pa.ArrowException, OSError, UnicodeError) as error:
                raise _damaged(self._path, error) from error
            self._held = number, conform(table, self._schema, where=str(self._path))
        return self._held[1]


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: damaged Parquet ({error}): rerun the stage")
