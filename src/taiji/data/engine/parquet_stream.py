"""Parquet written batch by batch, so that a table larger than memory fits through."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from taiji.store.files import conform, replacing

_FLAT_ROWS = 1 << 17
_NESTED_ROWS = 1 << 11


def write_batches(batches: Iterable[pa.RecordBatch], path: Path, schema: pa.Schema) -> int:
    """Write batches as one file, whole or not at all; return the rows.

    Row groups have a fixed number of rows, fewer where a row holds lists, so that the same rows
    give the same file however they were batched.

    Raises:
        DataError: A column is missing, cannot be cast, or holds a null where none is allowed.
    """
    nested = any(pa.types.is_nested(field.type) for field in schema)
    num_rows = 0
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        tables = (
            conform(pa.Table.from_batches([batch]), schema, where=str(path)) for batch in batches
        )
        for group in _regroup(tables, _NESTED_ROWS if nested else _FLAT_ROWS):
            writer.write_table(group.combine_chunks(), row_group_size=group.num_rows)
            num_rows += group.num_rows
    return num_rows


def _regroup(tables: Iterable[pa.Table], num_rows: int) -> Iterator[pa.Table]:
    """Cut a stream of tables into pieces of `num_rows`; the last one may be shorter."""
    waiting: list[pa.Table] = []
    held = 0
    for table in tables:
        while held + table.num_rows >= num_rows:
            head = table.slice(0, num_rows - held)
            yield pa.concat_tables([*waiting, head])
            table = table.slice(head.num_rows)
            waiting, held = [], 0
        if table.num_rows:
            waiting.append(table)
            held += table.num_rows
    if held:
        yield pa.concat_tables(waiting)
