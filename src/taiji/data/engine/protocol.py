"""What reads, joins and groups the logs: DuckDB in this process, or Spark on many machines.

All SQL is written once, in Spark's dialect. `SparkEngine` runs it as it is; `DuckDbEngine` has
SQLGlot translate it. So that both give the same rows, SQL here keeps to few means: joins, plain
aggregates, `row_number()` over a total order, `array_sort(collect_list(named_struct(...)))` for
lists, `md5` for draws. No query relies on the order of an earlier one, no SQL builds text: that
is the work of one Python function over Arrow batches, the same on both engines. The clock of
every session is UTC.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

BatchFunction = Callable[[pa.RecordBatch], pa.RecordBatch]

BATCH_ROWS = 1024
"""Rows that a batch function sees at once: with 50 lines of history each, some megabytes."""


class Engine(Protocol):
    """Tables by name, and SQL in Spark's dialect over them.

    An engine has a scratch folder of its own for what does not fit in memory; on a cluster it
    must lie where every machine can read it, as must the files that are read and written. What a
    killed run left there is removed when an engine opens.
    """

    name: str
    scratch: Path
    asks_at_once: int | None
    """Rows of which what was known is put together at once; None: all, the engine shares them."""

    def read(
        self, name: str, paths: Sequence[str | Path], columns: Sequence[str] | None = None
    ) -> None:
        """Call what stands in Parquet files by a name; nothing is read yet.

        Text files are turned into Parquet before (`taiji.data.tables.text_files`), where broken
        rows are counted: engines differ in what they take for a row.

        Args:
            name: The table's name in later SQL; a table of that name is replaced.
            paths: Files or globs.
            columns: Only these columns.

        Raises:
            DataError: A path leads to no file, or a file is not Parquet.
        """

    def register(self, name: str, table: pa.Table) -> None:
        """Call an Arrow table by a name; a table of that name is replaced."""

    def create(self, name: str, sql: str) -> None:
        """Compute a table and keep it, on disk if it must, until the engine is closed."""

    def query(self, sql: str) -> pa.Table:
        """Return a result whole; times come in UTC."""

    def batches(self, sql: str, num_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield a result in batches of at most `num_rows`; drain it before the next call."""

    def map_batches(
        self,
        queries: Iterable[str],
        function: BatchFunction,
        schema: pa.Schema,
        path: Path,
        num_rows: int = BATCH_ROWS,
    ) -> int:
        """Apply a function to results, batch by batch, into one Parquet file; return its rows.

        Args:
            queries: SQL of each part of the file, asked for when the part before it is written.
                End it in ORDER BY over a key: the file keeps that order.
            function: Must be picklable, and treat each row alone: how rows fall into batches
                differs between engines.
            schema: Columns that the function returns.
            path: Written whole or not at all.
            num_rows: At most so many rows in a batch.
        """

    def write(self, sql: str, path: Path, schema: pa.Schema) -> int:
        """Write a result as one Parquet file, cast to `schema`; return its rows."""

    def columns(self, name: str) -> list[str]:
        """Names of the columns of a table."""

    def close(self) -> None:
        """Let go of all tables and of the scratch folder."""
