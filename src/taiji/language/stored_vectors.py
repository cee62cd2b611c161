"""Vectors of texts on disk: computed once for each distinct text, read for some rows at a time.

A million texts of 1,024 numbers are four gigabytes, and whoever copies them needs them twice.

Shape suffixes: N rows, D dimensions.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taiji.arrays import Ints, Vectors
from taiji.config import Compute
from taiji.language.encode import PIECE_TEXTS, TextEncoder, encoding
from taiji.language.pieces import Pieces
from taiji.language.workers import work

_ROWS_AT_A_TIME = 1 << 14


class StoredVectors:
    """A vector for each of N texts.

    Args:
        path: Of the vectors of distinct texts, as float32 one after the other.
        dimension: D.
        places_N: Which of them each text has.
    """

    def __init__(self, path: Path, dimension: int, places_N: Ints) -> None:
        self._path, self._dimension, self._places_N = path, dimension, places_N

    def take(self, rows: Ints) -> Vectors:
        """The vectors of some texts, (rows, D)."""
        taken = np.empty((rows.size, self._dimension), dtype=np.float32)
        for start in range(0, rows.size, _ROWS_AT_A_TIME):
            part = slice(start, start + _ROWS_AT_A_TIME)
            taken[part] = self._mapped()[self._places_N[rows[part]]]
        return taken

    def _mapped(self) -> Vectors:
        """Mapped anew each time: what has been read may then leave memory."""
        return np.memmap(self._path, np.float32, "r").reshape(-1, self._dimension)


def store_vectors(
    compute: Compute, load: Callable[[], TextEncoder], texts: pa.ChunkedArray, path: Path
) -> StoredVectors:
    """Compute the vectors of texts wherever `compute` says, and keep them in a file.

    Args:
        compute: Where.
        load: Makes the encoder, once for each worker.
        texts: N strings, at least one. Each distinct text is computed once.
        path: Of the file; one that is there is replaced.
    """
    distinct = pc.unique(texts)
    pieces = Pieces(
        len(distinct), PIECE_TEXTS, lambda start, stop: distinct[start:stop].to_pylist()
    )
    dimension = 0
    with path.open("wb") as stream:
        for number, vectors_ND in work(compute, partial(encoding, load), pieces):
            dimension = vectors_ND.shape[1]
            stream.seek(number * PIECE_TEXTS * dimension * 4)
            stream.write(np.ascontiguousarray(vectors_ND, dtype=np.float32).tobytes())
    places = pc.index_in(texts, value_set=distinct)
    return StoredVectors(path, dimension, np.asarray(places, dtype=np.int64))
