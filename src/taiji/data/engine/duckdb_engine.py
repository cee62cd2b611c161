"""DuckDB in this process: streams what is larger than memory, spills to disk."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import duckdb
import pyarrow as pa
import sqlglot

from taiji.data.engine.interrupts import Interrupter
from taiji.data.engine.parquet_stream import write_batches
from taiji.data.engine.protocol import BATCH_ROWS, BatchFunction
from taiji.errors import DataError, ResourceError

_UNREADABLE = (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.IOException)


class DuckDbEngine:
    """`taiji.data.engine.protocol.Engine` on DuckDB; see there for what each method does."""

    name = "duckdb"
    asks_at_once: int | None = 1 << 16  # lists that it collects are not written to disk

    def __init__(self, scratch: Path, *, memory_gib: float = 1.5) -> None:
        self.scratch = scratch
        shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
        scratch.mkdir(parents=True)
        self._db = duckdb.connect(
            config={
                "memory_limit": f"{int(memory_gib * 1024)}MiB",
                "temp_directory": str(scratch),
                "preserve_insertion_order": False,  # no query here may rely on it
            }
        )
        self._interrupter = Interrupter(self._db)
        self._db.execute("SET TimeZone = 'UTC'")
        # It trusts the bounds that Parquet states, which leave NaN out: isnan() is then false for
        # every row of such a column, NaN or not (DuckDB 2.0.1).
        self._db.execute("SET disabled_optimizers = 'statistics_propagation'")

    def read(
        self, name: str, paths: Sequence[str | Path], columns: Sequence[str] | None = None
    ) -> None:
        """Register a view over files."""
        files = ", ".join(_literal(str(path)) for path in paths)
        chosen = "*" if columns is None else ", ".join(map(_identifier, columns))
        source = f"read_parquet([{files}], hive_partitioning = false, union_by_name = true)"
        with _clear_errors():
            self._db.execute(
                f"CREATE OR REPLACE TEMP VIEW {_identifier(name)} AS SELECT {chosen} FROM {source}"
            )

    def register(self, name: str, table: pa.Table) -> None:
        """Register an Arrow table."""
        self._db.register(name, table)

    def create(self, name: str, sql: str) -> None:
        """Keep a result under a name."""
        with _clear_errors():
            self._db.execute(
                f"CREATE OR REPLACE TEMP TABLE {_identifier(name)} AS {duckdb_sql(sql)}"
            )

    def query(self, sql: str) -> pa.Table:
        """Return a result whole."""
        with _clear_errors():
            return self._db.sql(duckdb_sql(sql)).to_arrow_table()

    def batches(self, sql: str, num_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield a result in batches."""
        with _clear_errors():
            yield from self._db.sql(duckdb_sql(sql)).to_arrow_reader(num_rows)

    def map_batches(
        self,
        queries: Iterable[str],
        function: BatchFunction,
        schema: pa.Schema,
        path: Path,
        num_rows: int = BATCH_ROWS,
    ) -> int:
        """Apply a function batch by batch into one Parquet file."""
        batches = (batch for sql in queries for batch in self.batches(sql, num_rows))
        return write_batches(map(function, batches), path, schema)

    def write(self, sql: str, path: Path, schema: pa.Schema) -> int:
        """Write a result as one Parquet file."""
        return write_batches(self.batches(sql, 64 * BATCH_ROWS), path, schema)

    def columns(self, name: str) -> list[str]:
        """Names of the columns of a table."""
        return list(self._db.table(name).columns)

    def close(self) -> None:
        """Let go of everything."""
        self._interrupter.close()
        self._db.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


@lru_cache(maxsize=256)
def duckdb_sql(sql: str) -> str:
    """Translate Spark's SQL into DuckDB's."""
    (translated,) = sqlglot.transpile(sql, read="spark", write="duckdb")
    return translated


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Say what the data or the machine did wrong; a fault of our SQL keeps its traceback."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise ResourceError(
            f"the engine's memory or scratch disk ran out: raise engine_memory_gib: {error}"
        ) from error
    except _UNREADABLE as error:
        raise DataError(f"tables: cannot be read: {error}") from error


def _identifier(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _literal(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"
