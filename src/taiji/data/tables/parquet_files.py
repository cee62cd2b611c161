"""Parquet: read as it lies where engines read it alike, else rewritten as text files are.

Rewritten are bytes without a text type (as ClickHouse, Impala and old Spark write strings),
columns of nulls only (as pandas writes them), lists of anything but text, names that differ
in case alone, and files whose names an engine would take for a pattern or for hidden.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taiji.data.tables.blocks import Reading, unusable
from taiji.data.tables.text_files import Staged

Kind = Literal["text", "whole", "number", "moment", "zoned", "list", "other"]

_BATCH_ROWS = 1 << 16
_IS_PATTERN = re.compile(r"[*?\[\]{}\\]")


@dataclass(frozen=True)
class ParquetColumns:
    """What the files of a table hold.

    Attributes:
        kinds: Column -> what it holds.
        types: Column -> its type, as errors call it.
        absent: Column -> a file without it, though others have it.
        staged: Types to rewrite the wanted columns to; None if engines read the files as they lie.
    """

    kinds: dict[str, Kind]
    types: dict[str, str]
    absent: dict[str, str]
    staged: dict[str, pa.DataType] | None


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
    if _is_list(kind):
        return "other" if pa.types.is_nested(kind.value_type) else "list"
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if is_text or pa.types.is_string_view(kind) or pa.types.is_boolean(kind) or _is_bytes(kind):
        return "text"
    return "other"


def parquet_columns(paths: tuple[Path, ...], wanted: Collection[str]) -> ParquetColumns:
    """Columns of all files; a column must hold the same in each.

    Raises:
        UnusableError: A file is no Parquet, or two files disagree about a column.
    """
    types: dict[str, pa.DataType] = {}
    holders: dict[str, set[Path]] = defaultdict(set)
    is_odd = any(_odd_name(path.name) or _odd_name(str(path.parent), False) for path in paths)
    for path in paths:
        schema = _schema(path)
        is_odd = is_odd or len({name.lower() for name in schema.names}) < len(schema.names)
        for field in schema:
            holders[field.name].add(path)
            is_odd = is_odd or (field.name in wanted and _is_odd(field.type))
            known = types.setdefault(field.name, field.type)
            if pa.types.is_null(known):
                types[field.name] = field.type
            elif not pa.types.is_null(field.type) and kind_of(known) != kind_of(field.type):
                what = f"column {field.name} holds {field.type}, other files {known}"
                raise unusable("E102", path, what, "write all files of a table with one type")
    found = [name for name in sorted(wanted) if name in types]
    absent = {name: next((p.name for p in paths if p not in holders[name]), "") for name in found}
    return ParquetColumns(
        {name: "text" if pa.types.is_null(kind) else kind_of(kind) for name, kind in types.items()},
        {name: str(kind) for name, kind in types.items()},
        {name: path for name, path in absent.items() if path},
        {name: _target(types[name]) for name in found} if is_odd else None,
    )


def rewrite_parquet(reading: Reading, staged: Staged, targets: Mapping[str, pa.DataType]) -> None:
    """Write the wanted columns of one file in their target types."""
    source = pq.ParquetFile(staged.path)
    columns = [name for name in targets if name in source.schema_arrow.names]
    row = 1
    for batch in source.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
        where = f"{staged.path}, rows {row} to {row + batch.num_rows - 1}"
        values = {
            name: _cast(batch.column(name), targets[name], reading, where) for name in columns
        }
        staged.write(values, range(row, row + batch.num_rows))
        row += batch.num_rows


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise unusable("E102", path, f"not Parquet ({error})", "write it anew") from error


def _odd_name(name: str, is_file: bool = True) -> bool:
    return bool(_IS_PATTERN.search(name)) or (is_file and name.startswith((".", "_")))


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_fixed_size_list(kind)
    )


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _is_odd(kind: pa.DataType) -> bool:
    """Whether engines read such a column differently, or not at all."""
    if pa.types.is_dictionary(kind):
        return _is_odd(kind.value_type)
    if _is_list(kind):
        inner = kind.value_type
        if pa.types.is_nested(inner):
            return False  # stays as it is, to be refused by its type
        return pa.types.is_fixed_size_list(kind) or not (
            pa.types.is_string(inner) or pa.types.is_large_string(inner)
        )
    return _is_bytes(kind) or bool(pa.types.is_null(kind) or pa.types.is_float16(kind))


def _target(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _target(kind.value_type)
    if _is_list(kind):
        return pa.list_(pa.string())
    if pa.types.is_float16(kind):
        return pa.float32()
    return pa.string() if _is_bytes(kind) or pa.types.is_null(kind) else kind


def _cast(values: pa.Array, target: pa.DataType, reading: Reading, where: str) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if _is_list(values.type):
        lists = values.cast(pa.list_(values.type.value_type))
        flat = _cast(lists.flatten(), target.value_type, reading, where)
        sizes = pc.fill_null(pc.list_value_length(lists), 0)
        offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(sizes)])
        return pa.ListArray.from_arrays(offsets, flat, mask=lists.is_null())
    if not _is_bytes(values.type):
        return values.cast(target)
    words: list[Any] = values.to_pylist()
    texts = (word if word is None else word.decode("utf-8", "surrogateescape") for word in words)
    return pa.array([text if text is None else reading.repaired(text, where) for text in texts])
