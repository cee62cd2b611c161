"""Files of a source, in the one form that every engine reads alike.

Parquet is read as it lies. Text (CSV, JSON lines, also gzipped) is first rewritten as Parquet
of strings, in one pass that holds one block in memory: both engines then see the same rows,
each row knows its file and number, and a row that does not parse is counted, not dropped or
guessed at. Bytes that are no text in the file's encoding become U+FFFD, and are counted too.
"""

import csv
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from taiji.config.mapping import RawTable
from taiji.data.tables.blocks import Reading, refuse_packed, unusable
from taiji.data.tables.json_lines import INNER, PART, rewrite_jsonl
from taiji.data.tables.parquet_files import Kind, parquet_columns, rewrite_parquet
from taiji.data.tables.text_files import FILE, ROW, Staged, rewrite_csv

_FORMATS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
}
_DAMAGED = (EOFError, OSError, UnicodeError, csv.Error, pa.ArrowException, zlib.error)
_NOT_DATA = ("Thumbs.db", "desktop.ini")
_PATTERN_MEND = "give a name, or a pattern as orders-*.csv"


@dataclass(frozen=True)
class RawFiles:
    """Parquet files with one table, ready for an engine.

    Attributes:
        label: What errors call it.
        kinds: Column -> what it holds.
        types: Column -> its type, as errors call it.
        names: Column -> what the Parquet calls it, where that differs.
        numbered: The files hold the columns `FILE` and `ROW`.
        parts: What stands between the parts of an exploded column and inside one; None: what the
            recipe says.
        reading: What did not parse.
    """

    label: str
    paths: tuple[Path, ...]
    kinds: dict[str, Kind]
    types: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    numbered: bool = False
    parts: tuple[str, str] | None = None
    reading: Reading = field(default_factory=Reading)


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
    label = str(folder / (raw.files or ""))
    paths = find_files(folder, raw.files or "")
    formats = sorted({raw.format or _format_of(path) for path in paths})
    if len(formats) > 1:
        raise unusable("E101", label, f"files of {' and '.join(formats)}", "one format a table")
    if formats == ["parquet"]:
        return _open_parquet(label, paths, work, wanted)
    types = {name: _type(name in lists) for name in sorted(wanted)}
    reading, names = Reading(), _names(types)
    rewrite = rewrite_jsonl if formats == ["jsonl"] else rewrite_csv
    found: dict[Path, set[str]] = {}

    def rewritten(staged: Staged) -> None:
        num_broken = sum(reading.num_broken.values())
        found[staged.path] = rewrite(raw, reading, staged)
        if not found[staged.path] and (num := sum(reading.num_broken.values()) - num_broken):
            what = f"no line is a JSON object: {reading.broken[0].text[:80]!r} and {num - 1} others"
            raise unusable("E102", staged.path, what, "is it JSON lines? else set format")

    staged = _stage(paths, work, names, types, rewritten)
    if not any(found.values()):
        raise unusable("E101", label, "holds no row", "was it written to its end?")
    _compare(found, wanted, reading, label, sparse=formats == ["jsonl"])
    every = sorted(set[str]().union(*found.values()))
    kinds: dict[str, Kind] = {name: "list" if name in lists else "text" for name in every}
    parts = (PART, INNER) if formats == ["jsonl"] else None
    return RawFiles(label, staged, kinds, names=names, numbered=True, parts=parts, reading=reading)


def find_files(folder: Path, pattern: str) -> tuple[Path, ...]:
    """The files that a name or pattern means, in order.

    A file of exactly this name counts even if the name could be a pattern. What systems leave
    behind (`._x.csv`, `~$x.csv`, `_SUCCESS`) counts only where the pattern names it.

    Raises:
        UnusableError: There is none.
    """
    label = f"{folder / pattern}"
    if not Path(pattern).name:
        raise unusable("E101", label, f"{pattern!r} names no file", _PATTERN_MEND)
    try:
        whole = folder / Path(pattern).expanduser()
        if whole.is_file():
            return (whole,)
        root = Path(whole.anchor) if Path(pattern).expanduser().is_absolute() else folder
        found = [path for path in root.glob(str(whole.relative_to(root))) if path.is_file()]
    except (ValueError, IndexError, NotImplementedError, RuntimeError, OSError) as error:
        what = f"no pattern for files ({error})"
        raise unusable("E101", label, what, _PATTERN_MEND) from error
    named = set(Path(pattern).parts)
    paths = tuple(sorted(p for p in found if not _is_left_behind(p.relative_to(root), named)))
    if not paths:
        mend = "correct the path or put the file there"
        if whole.is_dir():
            mend = f"it is a folder: say which of its files, as {pattern.rstrip('/')}/*.csv"
        raise unusable("E101", label, "no such file", mend)
    return paths


def _is_left_behind(path: Path, named: Collection[str]) -> bool:
    return any(
        part not in named and (part.startswith((".", "_", "~$")) or part in _NOT_DATA)
        for part in path.parts
    )


def _format_of(path: Path) -> str:
    endings = [ending.lower() for ending in path.suffixes]
    ending = endings[-2] if endings[-1:] == [".gz"] and len(endings) > 1 else "".join(endings[-1:])
    if ending not in _FORMATS:
        refuse_packed(path)  # which no format would help
        what, mend = "format not known by its ending", "set format: parquet, csv or jsonl"
        raise unusable("E101", path, what, mend)
    return _FORMATS[ending]


def _type(is_list: bool) -> pa.DataType:
    return pa.list_(pa.string()) if is_list else pa.string()


def _names(columns: Collection[str]) -> dict[str, str]:
    """Names of our own: engines know no case, and a file may have a column called `file`."""
    return {column: f"c{number}" for number, column in enumerate(columns)}


def _stage(
    paths: tuple[Path, ...],
    work: Path,
    names: dict[str, str],
    types: dict[str, pa.DataType],
    rewrite: Callable[[Staged], None],
) -> tuple[Path, ...]:
    """Rewrite files one by one into `work`."""
    work.mkdir(parents=True)
    columns = [(names[name], kind) for name, kind in types.items()]
    schema = pa.schema([*columns, (FILE, pa.string()), (ROW, pa.int64())])
    targets = tuple(work / f"{number:05d}.parquet" for number in range(len(paths)))
    for path, target in zip(paths, targets, strict=True):
        try:
            with pq.ParquetWriter(target, schema, compression="zstd") as writer:
                rewrite(Staged(path, names, writer))
        except _DAMAGED as error:
            mend = (
                "is the file whole, and in this encoding? A stray quote swallows rows: set "
                "quote: '' if quotes are text"
            )
            raise unusable("E102", path, f"cannot be read ({error})", mend) from error
    return targets


def _open_parquet(
    label: str, paths: tuple[Path, ...], work: Path, wanted: Collection[str]
) -> RawFiles:
    columns, reading = parquet_columns(paths, wanted), Reading()
    if columns.absent:
        column, file = next(iter(columns.absent.items()))
        raise _drifted(label, file, [column, *list(columns.absent)[1:]])
    if columns.staged is None:
        return RawFiles(label, paths, columns.kinds, columns.types)
    types = columns.staged
    names = _names(types)
    staged = _stage(paths, work, names, types, lambda one: rewrite_parquet(reading, one, types))
    return RawFiles(label, staged, columns.kinds, columns.types, names, True, reading=reading)


def _compare(
    found: dict[Path, set[str]],
    wanted: Collection[str],
    reading: Reading,
    label: str,
    *,
    sparse: bool,
) -> None:
    """Columns that some files have and others have not would be null there in silence.

    In JSON lines a key may be absent from every row of a small file: that is told only.
    """
    every = set(wanted).intersection(*[set[str]().union(*found.values())])
    for path, columns in found.items():
        absent = sorted(every - columns)
        if absent and sparse and columns:
            reading.some_files |= dict.fromkeys(absent, path.name)
        elif absent and not sparse:
            raise _drifted(label, path.name, absent)


def _drifted(label: str, file: str, absent: Collection[str]) -> Exception:
    what = f"{file} has no column {', '.join(absent)}, which other files of the table have"
    mend = "rename the columns, or list such files as a table of their own that does not map them"
    return unusable("E101", label, what, mend)
