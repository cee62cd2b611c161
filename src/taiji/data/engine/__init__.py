"""SQL engines: DuckDB on one machine, Spark on many, behind one protocol."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from taiji.data.engine.protocol import Engine

__all__ = ["Engine", "open_engine"]


@contextmanager
def open_engine(
    kind: Literal["duckdb", "spark"], scratch: Path, *, memory_gib: float = 1.5
) -> Iterator[Engine]:
    """Start an engine, and close it at the end.

    Args:
        kind: `duckdb`, or `spark` (extra `spark`, and Java).
        scratch: Folder for what does not fit in memory; emptied at the start, gone at the end.
        memory_gib: What the engine may hold in memory before it writes to `scratch`.

    Raises:
        EngineError: PySpark or Java is missing, or Spark does not start.
    """
    engine: Engine
    match kind:
        case "duckdb":
            from taiji.data.engine.duckdb_engine import DuckDbEngine

            engine = DuckDbEngine(scratch, memory_gib=memory_gib)
        case "spark":
            from taiji.data.engine.spark_engine import SparkEngine

            engine = SparkEngine(scratch, memory_gib=memory_gib)
    try:
        yield engine
    finally:
        engine.close()
