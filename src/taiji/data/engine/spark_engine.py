"""Spark, where one machine is outgrown: the same SQL as it stands, the same Python function.

A session that is already open (a notebook, `spark-submit`) is used and left open; else one is
started on this machine. The scratch folder and all files must lie where every executor can read
and write.
"""

import os
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from taiji.data.engine.parquet_stream import write_batches
from taiji.data.engine.protocol import BATCH_ROWS, BatchFunction
from taiji.errors import DataError, EngineError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_LOGGING = """
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %p %c{1}: %m%n
"""


_MICROSECONDS = (
    "timestampadd(MICROSECOND, `{0}` div 1000, timestamp_ntz '1970-01-01 00:00:00') AS `{0}`"
)


class SparkEngine:
    """`taiji.data.engine.protocol.Engine` on Spark; see there for what each method does."""

    name = "spark"
    asks_at_once: int | None = None

    def __init__(self, scratch: Path, *, memory_gib: float = 1.5) -> None:
        self.scratch = scratch.absolute()
        shutil.rmtree(self.scratch, ignore_errors=True)  # of a run that was killed
        self.scratch.mkdir(parents=True)
        self._spark, self._is_ours = _session(self.scratch, memory_gib)
        self._spark.conf.set("spark.sql.session.timeZone", "UTC")
        self._spark.conf.set("spark.sql.execution.arrow.pyspark.enabled", "true")
        self._spark.conf.set(
            "spark.sql.legacy.parquet.nanosAsLong", "true"
        )  # else none can be read
        self._num_outputs = 0

    def read(
        self, name: str, paths: Sequence[str | Path], columns: Sequence[str] | None = None
    ) -> None:
        """Register a view over files."""
        from pyspark.errors import AnalysisException

        files = [str(path) for path in paths]
        try:
            frame = self._spark.read.option("mergeSchema", "true").parquet(*files)
        except AnalysisException as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{', '.join(files)}: cannot be read: {reason}") from error
        nanoseconds = _nanoseconds(files)
        wanted = frame.columns if columns is None else columns
        frame.selectExpr(
            *(
                _MICROSECONDS.format(column) if column in nanoseconds else f"`{column}`"
                for column in wanted
            )
        ).createOrReplaceTempView(name)

    def register(self, name: str, table: pa.Table) -> None:
        """Register an Arrow table: through a file, so that no limit of a message applies."""
        path = self._output()
        path.mkdir()
        pq.write_table(table, path / "part-0.parquet")
        self._spark.read.parquet(str(path)).createOrReplaceTempView(name)

    def create(self, name: str, sql: str) -> None:
        """Keep a result under a name: written out, which also ends its chain of computation."""
        path = self._output()
        self._spark.sql(sql).write.parquet(str(path))
        self._spark.read.parquet(str(path)).createOrReplaceTempView(name)

    def query(self, sql: str) -> pa.Table:
        """Return a result whole."""
        with _quiet():
            return _plain(self._spark.sql(sql).toArrow())

    def batches(self, sql: str, num_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield a result in batches, by way of files, so that it need not fit in memory here."""
        yield from self._gather(self._spark.sql(sql), num_rows)

    def map_batches(
        self,
        queries: Iterable[str],
        function: BatchFunction,
        schema: pa.Schema,
        path: Path,
        num_rows: int = BATCH_ROWS,
    ) -> int:
        """Apply a function batch by batch on the executors into one Parquet file."""
        from pyspark.sql.pandas.types import from_arrow_schema

        def apply(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return map(function, batches)

        self._spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(num_rows))

        def written(sql: str) -> Iterator[pa.RecordBatch]:
            with _quiet():
                told = self._spark.sql(sql).mapInArrow(apply, from_arrow_schema(schema))
            yield from self._gather(told, num_rows)

        batches = (batch for sql in queries for batch in written(sql))
        return write_batches(batches, path, schema)

    def write(self, sql: str, path: Path, schema: pa.Schema) -> int:
        """Write a result as one Parquet file."""
        return write_batches(self.batches(sql, 64 * BATCH_ROWS), path, schema)

    def columns(self, name: str) -> list[str]:
        """Names of the columns of a table."""
        return list(self._spark.table(name).columns)

    def close(self) -> None:
        """Let go of everything; a session that was there before stays."""
        if self._is_ours:
            self._spark.stop()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _output(self) -> Path:
        self._num_outputs += 1
        return self.scratch / f"{self._num_outputs:04d}"

    def _gather(self, frame: "DataFrame", num_rows: int) -> Iterator[pa.RecordBatch]:
        """Write a result and read its parts back by their numbers: the order of an ORDER BY."""
        path = self._output()
        frame.write.parquet(str(path))
        for part in sorted(path.glob("part-*.parquet")):
            with pq.ParquetFile(part) as file:
                for batch in file.iter_batches(num_rows):
                    yield from _plain(pa.Table.from_batches([batch])).to_batches()
        shutil.rmtree(path)


def _nanoseconds(files: Sequence[str]) -> set[str]:
    """Columns of plain times in nanoseconds, as pandas writes them; Spark knows none such."""
    found: set[str] = set()
    for file in map(Path, files):
        folder = Path(file.anchor)
        first = next(folder.glob(str(file.relative_to(folder))), None)
        if first is not None and first.is_file():
            schema = pq.read_schema(first)
            found |= {field.name for field in schema if field.type == pa.timestamp("ns")}
    return found


def _session(scratch: Path, memory_gib: float) -> "tuple[SparkSession, bool]":
    """The session that is open, or a new one on this machine."""
    try:
        from pyspark.errors import PySparkRuntimeError
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise EngineError(
            "engine=spark: PySpark is not installed: pip install 'taiji-rec[spark]'"
        ) from error
    active = SparkSession.getActiveSession()
    if active is not None:
        return active, False
    # Workers would otherwise run whatever python3 is first on the path.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.appName("taiji")
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # else spark-submit has chosen the machines
        if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
            raise EngineError("engine=spark: Java is not installed: install Java 17 or later")
        logging = scratch / "log4j2.properties"
        logging.write_text(_LOGGING, encoding="utf-8")
        builder = builder.master("local[*]").config(
            map={
                "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={logging.as_uri()}",
                "spark.driver.memory": f"{int(memory_gib * 1024)}m",
                "spark.local.dir": str(scratch),
                "spark.ui.enabled": "false",
                "spark.ui.showConsoleProgress": "false",
                "spark.sql.shuffle.partitions": "8",
                "spark.driver.bindAddress": "127.0.0.1",
                "spark.driver.host": "127.0.0.1",
                "spark.sql.warehouse.dir": str(scratch / "warehouse"),
                # One listing instead of a job for a folder of a few hundred days.
                "spark.sql.sources.parallelPartitionDiscovery.threshold": "1000",
            }
        )
    try:
        return builder.getOrCreate(), True
    except PySparkRuntimeError as error:
        raise EngineError(f"engine=spark: Spark does not start: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without PySpark's warning of a new pandas, of which nothing is used here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")
        yield


def _plain(table: pa.Table) -> pa.Table:
    """Drop what Spark says about columns beside their types."""
    return table.replace_schema_metadata(None)
