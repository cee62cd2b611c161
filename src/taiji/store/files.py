"""Files that are whole or absent: Parquet, JSON, JSON lines and digests.

Every write goes to a temporary file in the same folder, is synced, then renamed, so a kill at
any moment leaves the old content or the new. Parquet carries page checksums, because without
them about half of all single-bit flips read back as wrong data in silence.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taiji.errors import DataError, MissingArtifactError

_CHUNK_BYTES = 1 << 20
_ROWS_OF_A_GROUP = 1 << 20


def write_parquet(table: pa.Table, path: Path, schema: pa.Schema) -> None:
    """Write `table` as zstd Parquet with page checksums, cast to `schema`.

    Raises:
        DataError: A column is missing, cannot be cast, or holds a null where none is allowed.
    """
    checked = conform(table, schema, where=str(path))
    with replacing(path) as temporary:
        pq.write_table(checked, temporary, compression="zstd", write_page_checksum=True)


def write_tables(tables: Iterable[pa.Table], path: Path, schema: pa.Schema) -> int:
    """Write tables one after the other into one Parquet file, as `write_parquet`; its rows.

    Raises:
        DataError: As `write_parquet`.
    """
    num_rows = 0
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for group in _grouped(conform(table, schema, where=str(path)) for table in tables):
            writer.write_table(group)
            num_rows += group.num_rows
        if not num_rows:
            writer.write_table(schema.empty_table())
    return num_rows


def _grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Tables of about a million rows, so that many small ones do not make many row groups."""
    waiting: list[pa.Table] = []
    held = 0
    for table in tables:
        waiting.append(table)
        held += table.num_rows
        if held >= _ROWS_OF_A_GROUP:
            yield pa.concat_tables(waiting)
            waiting, held = [], 0
    if held:
        yield pa.concat_tables(waiting)


def read_parquet(
    path: Path,
    schema: pa.Schema | None = None,
    *,
    only: tuple[str, Sequence[str]] | None = None,
) -> pa.Table:
    """Read a Parquet file, verifying its page checksums.

    Args:
        path: The file.
        schema: Columns that it must have; no others are read.
        only: A column and the values of the rows to read; other rows never become Arrow.

    Raises:
        MissingArtifactError: There is no such file.
        DataError: The file is damaged, or its columns are not those of `schema`.
    """
    if not path.is_file():
        raise MissingArtifactError(f"{path}: not there: run the stage that writes it")
    try:
        chosen = None if only is None else pc.field(only[0]).isin(pa.array(only[1], pa.string()))
        table = pq.read_table(
            path, columns=_columns(path, schema), page_checksum_verification=True, filters=chosen
        )
        _ = table.column_names  # decoded only when asked for
    except (pa.ArrowException, OSError, UnicodeError) as error:
        why = " ".join(str(error).split())
        raise DataError(f"{path}: damaged Parquet ({why}): rerun the stage") from error
    return table if schema is None else conform(table, schema, where=str(path))


def _columns(path: Path, schema: pa.Schema | None) -> list[str] | None:
    """The columns to read; all where some are missing, so that what is there can be told."""
    if schema is None or not set(schema.names) <= set(pq.read_schema(path).names):
        return None
    return list(schema.names)


def conform(table: pa.Table, schema: pa.Schema, *, where: str) -> pa.Table:
    """Return the columns of `schema`, in its order and types."""
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise DataError(f"{where}: no column {', '.join(missing)}: found {table.column_names}")
    for field in schema:
        if not field.nullable and table[field.name].null_count:
            rows = table[field.name].null_count
            raise DataError(f"{where}: column {field.name}: {rows} null values where none may be")
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{where}: a column has the wrong type: {error}") from error


def write_json(value: object, path: Path) -> None:
    """Write JSON with sorted keys.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    text = json_text(value)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(value: object) -> str:
    """JSON with sorted keys, one to a line.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text + "\n"


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        MissingArtifactError: There is no such file.
        DataError: It is not JSON.
    """
    if not path.is_file():
        raise MissingArtifactError(f"{path}: not there: run the stage that writes it")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid JSON ({error}): rerun the stage") from error


def append_jsonl(row: Mapping[str, object], path: Path) -> None:
    """Append one row; a kill can at most leave a cut last line, which `read_jsonl` drops."""
    line = json.dumps(row, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read the complete lines of a JSON-lines file; an absent file has none.

    Raises:
        DataError: A line that is not the cut last one is no JSON.
    """
    if not path.is_file():
        return []
    *lines, _cut = path.read_text(encoding="utf-8").split("\n")
    try:
        return [json.loads(line) for line in lines]
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: a line is not JSON ({error}): rerun the stage") from error


def digest_file(path: Path) -> str:
    """SHA-256 of a file, as `sha256:<hex>`."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def digest_value(value: object) -> str:
    """SHA-256 of a JSON value with sorted keys, as `sha256:<hex>`."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary sibling of `path` to write to; on success it takes the place of `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
