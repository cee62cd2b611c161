"""Files of a source, in the one form that every engine reads alike.

Parquet is read as it lies. Text (CSV, JSON lines, also gzipped) is first rewritten as Parquet
of strings, in one pass that holds one block in memory: both engines then see the same rows,
each row knows its file and number, and a row that does not parse is counted, not dropped or
guessed at. Bytes that are no text in the file's encoding become U+FFFD, and are counted too.
"""

import gzip
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from taiji.config.mapping import RawTable
from taiji.data.problems import Problem, UnusableError
from taiji.data.tables.text_files import FILE, ROW, Reading, rewrite_csv, rewrite_jsonl

Kind = Literal["text", "whole", "number", "moment", "zoned", "list", "other"]

_FORMATS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
}


@dataclass(frozen=True)
class RawFiles:
    """Parquet files with one table, ready for an engine.

    Attributes:
        label: What errors call it.
        columns: Name -> what the column holds.
        numbered: The files hold the columns `FILE` and `ROW`.
        reading: What did not parse.
    """

    label: str
    paths: tuple[Path, ...]
    columns: dict[str, Kind]
    numbered: bool
    reading: Reading


def open_files(
    raw: RawTable, folder: Path, work: Path, *, wanted: Collection[str], lists: Collection[str]
) -> RawFiles:
    """Find the files of a table and make them readable.

    Args:
        folder: What `raw.files` is relative to.
        work: Where rewritten text goes.
        wanted: Columns that the mapping reads; the rest of a text file is not rewritten.
        lists: Those of them that hold lists.

    Raises:
        UnusableError: There is no file, or one cannot be read.
    """
    pattern = raw.files or ""
    label = str(folder / pattern)
    paths = tuple(sorted(path for path in folder.glob(pattern) if path.is_file()))
    if not paths:
        raise _unusable("E101", label, "no such file", "correct the path or put the file there")
    formats = sorted({raw.format or _format_of(path) for path in paths})
    if formats == ["parquet"]:
        return RawFiles(label, paths, _parquet_columns(paths), False, Reading())
    if len(formats) > 1:
        raise _unusable("E101", label, f"files of {' and '.join(formats)}", "one format a table")
    work.mkdir(parents=True)
    reading = Reading()
    names = sorted(wanted)
    columns = [(name, _type(name in lists)) for name in names]
    schema = pa.schema([*columns, (FILE, pa.string()), (ROW, pa.int64())])
    staged = tuple(work / f"{number:05d}.parquet" for number in range(len(paths)))
    found: set[str] = set()
    rewrite = rewrite_jsonl if formats == ["jsonl"] else rewrite_csv
    for path, target in zip(paths, staged, strict=True):
        try:
            with pq.ParquetWriter(target, schema, compression="zstd") as writer:
                found |= rewrite(path, raw, schema, reading, writer)
        except (gzip.BadGzipFile, EOFError, OSError, pa.ArrowException) as error:
            mend = (
                "is the file whole? A stray quote swallows rows: set quote: '' if quotes are text"
            )
            raise _unusable("E102", path, f"cannot be read ({error})", mend) from error
    kinds: dict[str, Kind] = {name: "list" if name in lists else "text" for name in sorted(found)}
    return RawFiles(label, staged, kinds, True, reading)


def kind_of(kind: pa.DataType) -> Kind:
    """What a column of this type holds, as far as a mapping asks."""
    if pa.types.is_dictionary(kind):
        return kind_of(kind.value_type)
    if pa.types.is_timestamp(kind):
        return "moment" if kind.tz is None else "zoned"
    if pa.types.is_date(kind):
        return "moment"
    if pa.types.is_integer(kind):
        return "whole"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_list_view(kind):
        return "list"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    return "text" if pa.types.is_boolean(kind) else "other"


def _format_of(path: Path) -> str:
    ending = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if ending not in _FORMATS:
        what, mend = "format not known by its ending", "set format: parquet, csv or jsonl"
        raise _unusable("E101", path, what, mend)
    return _FORMATS[ending]


def _type(is_list: bool) -> pa.DataType:
    return pa.list_(pa.string()) if is_list else pa.string()


def _parquet_columns(paths: tuple[Path, ...]) -> dict[str, Kind]:
    """Columns of all files; a column must hold the same in each."""
    columns: dict[str, Kind] = {}
    for path in paths:
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowException, OSError) as error:
            raise _unusable("E102", path, f"not Parquet ({error})", "write it anew") from error
        for field in schema:
            kind = kind_of(field.type)
            if columns.setdefault(field.name, kind) != kind:
                what = f"column {field.name} holds {field.type}, other files {columns[field.name]}"
                raise _unusable("E102", path, what, "write all files of a table with one type")
    return columns


def _unusable(code: str, where: Path | str, what: str, mend: str) -> UnusableError:
    return UnusableError(Problem(code, str(where), what, mend, fatal=True))
