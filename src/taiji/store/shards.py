"""Numbered parts of one table, so that a killed stage repeats only the part in flight.

A part vouches for itself: its first line is the SHA-256 of its place and its content. A part
that was damaged, cut, renamed or brought from elsewhere is named, set aside and made again.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from taiji.errors import MissingArtifactError
from taiji.store.files import conform, replacing, write_tables
from taiji.store.vouched import set_aside


class Shards:
    """The parts of one table in a folder of unfinished work.

    Args:
        folder: Where the parts lie. Its name and its parent's belong to the place of each part.
        schema: The columns of every part.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder = folder
        self._schema = schema
        self._verified: set[int] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def done(self, index: int) -> bool:
        """Whether part `index` is there and what was written; if not, it is set aside."""
        if index not in self._verified and self._content(index) is not None:
            self._verified.add(index)
        return index in self._verified

    def write(self, index: int, table: pa.Table) -> None:
        """Write part `index`; a part that exists is replaced."""
        path = self._path(index)
        sink = pa.BufferOutputStream()
        pq.write_table(conform(table, self._schema, where=str(path)), sink, compression="zstd")
        content = sink.getvalue()
        with replacing(path) as temporary, temporary.open("wb") as stream:
            stream.write(self._first_line(index, content))
            stream.write(content)
        self._verified.add(index)

    def read(self, index: int) -> pa.Table:
        """Part `index`.

        Raises:
            MissingArtifactError: It is not there, or was damaged since it was found whole.
        """
        content = self._content(index)
        if content is None:
            self._verified.discard(index)
            raise MissingArtifactError(
                f"{self._path(index)}: not there or damaged: run the same command again"
            )
        return conform(pq.read_table(pa.BufferReader(content)), self._schema, where="part")

    def all(self, num_shards: int) -> Iterator[pa.Table]:
        """Parts 0 .. num_shards-1 in order.

        Raises:
            MissingArtifactError: A part is not there.
        """
        return (self.read(index) for index in range(num_shards))

    def merge(self, num_shards: int, path: Path) -> int:
        """Write parts 0 .. num_shards-1 in order into one file and return its rows.

        The parts stay until the stage is over, so that a kill right after this costs nothing.

        Raises:
            MissingArtifactError: A part is not there.
        """
        return write_tables(self.all(num_shards), path, self._schema)

    def _content(self, index: int) -> pa.Buffer | None:
        """The Parquet file inside a part, if it is what was written for this place."""
        path = self._path(index)
        if not path.is_file():
            return None
        data = path.read_bytes()
        end = data.find(b"\n") + 1
        content = pa.py_buffer(memoryview(data)[end:])
        if data[:end] != self._first_line(index, content):
            set_aside(path, "is not what was written there")
            return None
        return content

    def _first_line(self, index: int, content: pa.Buffer) -> bytes:
        place = f"{self._folder.parent.name}/{self._folder.name}/{index}\n"
        digest = hashlib.sha256(place.encode())
        digest.update(content)
        return f"sha256:{digest.hexdigest()}\n".encode()

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:06d}.part"
