"""What engines raise when data cannot be read, as one problem that names the table."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from taiji.data.problems import Problem, UnusableError
from taiji.errors import DataError


@contextmanager
def unreadable(code: str, where: str, mend: str) -> Iterator[None]:
    """Name the table in what an engine raises; running out of memory stays what it is."""
    kinds: tuple[type[Exception], ...] = (DataError, duckdb.Error)
    if "pyspark" in sys.modules:
        from pyspark.errors import PySparkException

        kinds = (*kinds, PySparkException)
    try:
        yield
    except kinds as error:
        line = str(error).strip().split("\n")[0][:300]
        raise UnusableError(Problem(code, where, f"cannot be read ({line})", mend, True)) from error
