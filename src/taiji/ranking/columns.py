"""Columns of Arrow tables as arrays of integers."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taiji.arrays import Ints
from taiji.errors import DataError
from taiji.schema import TIME


@dataclass(frozen=True)
class Coded:
    """A categorical column: a code for each row into the distinct values, -1 for null."""

    codes: NDArray[np.int32]
    levels: tuple[str, ...]

    def take(self, rows: Ints) -> "Coded":
        """The column at `rows`."""
        return Coded(self.codes[rows], self.levels)


def path(items: pa.Table, columns: list[str]) -> pa.Array:
    """The full category path, null if its last level is: one name may stand under two parents."""
    *parents, last = (items[name] for name in columns)
    parts = [*(pc.fill_null(parent, "") for parent in parents), last]
    return pc.binary_join_element_wise(*parts, "\x1f")


def code(column: pa.Array | pa.ChunkedArray) -> Coded:
    """Code a column by its distinct values, in the order of their first appearance."""
    encoded = pc.dictionary_encode(column)
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return Coded(codes.astype(np.int32), tuple(encoded.dictionary.to_pylist()))


def profile_columns(fields: pa.ChunkedArray) -> dict[str, Coded]:
    """The columns `user.<name>` of the profiles, in the order in which the source declares them."""
    entries = fields.combine_chunks()
    entries = pa.concat_arrays(entries.chunks) if isinstance(entries, pa.ChunkedArray) else entries
    offsets = np.asarray(entries.offsets)
    user_E = np.repeat(np.arange(len(entries)), np.diff(offsets))
    first, num = int(offsets[0]), user_E.size
    keys, values = entries.keys.slice(first, num), entries.items.slice(first, num)
    columns = {}
    for name in keys.unique().to_pylist():
        place = np.full(len(entries), -1, dtype=np.int64)
        own = np.flatnonzero(np.asarray(pc.equal(keys, name)))
        place[user_E[own]] = own
        columns[f"user.{name}"] = code(values.take(pa.array(place, mask=place < 0)))
    return columns


def places(ids: pa.ChunkedArray, known: pa.Array, what: str) -> Ints:
    """Where each id stands among the known ones.

    Raises:
        DataError: An id is not known.
    """
    found = pc.index_in(ids, value_set=known)
    if found.null_count:
        stray = ids.filter(pc.is_null(found))[0].as_py()
        raise DataError(
            f"ranking: {found.null_count} rows name a {what} that the {what}s table lacks, "
            f"e.g. {stray!r}: rebuild the tables together"
        )
    return np.asarray(found, dtype=np.int64)


def microseconds(column: pa.ChunkedArray) -> Ints:
    """Times as microseconds since 1970, UTC."""
    return np.asarray(column.cast(TIME).cast(pa.int64()), dtype=np.int64)


def to_microseconds(moment: datetime) -> int:
    """One moment as microseconds since 1970, UTC."""
    return int(pa.scalar(moment, TIME).cast(pa.int64()).as_py())
