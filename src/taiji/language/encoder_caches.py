"""Embeddings that are not computed twice: kept on disk for the machine, in memory for a run.

A catalogue of 17,300 titles takes two minutes on two cores, and three stages need it. The cache
lies under the user's cache folder, one Parquet file for each batch of new texts, so that
processes writing at the same time never touch each other's file.
"""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taiji.arrays import Vectors
from taiji.errors import DataError
from taiji.language.encode import TextEncoder
from taiji.language.models import resolve_model
from taiji.store.files import digest_file, digest_value, read_parquet, write_parquet
from taiji.store.user_folders import cache_folder

logger = logging.getLogger(__name__)

_FORMAT = 1  # raise it when the same files would give other vectors
_KEY_BYTES = 16


class CachedEncoder:
    """A TextEncoder that looks up before it computes.

    The key is a digest of the encoder's files and of the text, so neither a changed model nor a
    renamed one can return a wrong vector. A damaged file is left out with a warning and its
    texts are computed again. A cache that cannot be written costs time, never the run.

    Args:
        encoder: Computes what is missing.
        folder: Of the cache; default `$XDG_CACHE_HOME/taiji/embeddings`.
    """

    def __init__(self, encoder: TextEncoder, folder: Path | None = None) -> None:
        self._encoder = encoder
        self.name = encoder.name
        self.dimension = encoder.dimension
        self._folder = (folder or cache_folder() / "embeddings") / _encoder_digest(encoder)
        self._schema = pa.schema(
            [
                pa.field("key", pa.binary(_KEY_BYTES), nullable=False),
                pa.field("vector", pa.list_(pa.float32(), self.dimension), nullable=False),
            ]
        )
        self._vectors: dict[bytes, NDArray[np.float32]] = {}
        for path in sorted(self._folder.glob("*.parquet")):
            self._load(path)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, N x D, in the order of the texts."""
        keys = [_key(text) for text in texts]
        missing = {
            key: text for key, text in zip(keys, texts, strict=True) if key not in self._vectors
        }
        if missing:
            vectors_ND = self._encoder.encode(list(missing.values()))
            self._vectors.update(zip(missing, vectors_ND, strict=True))
            self._store(list(missing), vectors_ND)
        out_ND = np.empty((len(keys), self.dimension), dtype=np.float32)
        for row, key in enumerate(keys):
            out_ND[row] = self._vectors[key]
        return out_ND

    def _load(self, path: Path) -> None:
        try:
            table = read_parquet(path, self._schema).combine_chunks()
        except DataError as error:
            logger.warning("embedding cache: %s", error)
            return
        flat = table["vector"].combine_chunks().flatten().to_numpy()
        vectors_ND = flat.reshape(-1, self.dimension)
        self._vectors.update(zip(table["key"].to_pylist(), vectors_ND, strict=True))

    def _store(self, keys: Sequence[bytes], vectors_ND: NDArray[np.float32]) -> None:
        flat = pa.array(vectors_ND.reshape(-1), pa.float32())
        vectors = pa.FixedSizeListArray.from_arrays(flat, self.dimension)
        table = pa.table({"key": pa.array(keys, pa.binary(_KEY_BYTES)), "vector": vectors})
        # The name is the content's, so two processes with the same texts write the same file.
        name = hashlib.blake2b(b"".join(keys), digest_size=_KEY_BYTES).hexdigest()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_parquet(table, self._folder / f"{name}.parquet", self._schema)
        except OSError as error:
            logger.warning("embedding cache: %s: not written: %s", self._folder, error)


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()


def _encoder_digest(encoder: TextEncoder) -> str:
    """Of the model's files where they are local, of its name where only the Hub has them."""
    source = resolve_model(encoder.name)
    files: dict[str, str] = {}
    if isinstance(source, Path):
        paths = sorted(path for path in source.rglob("*") if path.is_file())
        files = {path.relative_to(source).as_posix(): digest_file(path) for path in paths}
    identity = {
        "format": _FORMAT,
        "model": files or encoder.name,
        "dimension": encoder.dimension,
    }
    return digest_value(identity).removeprefix("sha256:")[:32]


class RecentTexts:
    """A TextEncoder that remembers the texts asked for last.

    Args:
        encoder: Computes what is not remembered, all of it in one call.
        max_texts: How many vectors are kept; the one not asked for longest goes first.
    """

    def __init__(self, encoder: TextEncoder, max_texts: int = 10_000) -> None:
        self._encoder = encoder
        self._max_texts = max_texts
        self._vectors: OrderedDict[str, Vectors] = OrderedDict()
        self.name = encoder.name
        self.dimension = encoder.dimension

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See `TextEncoder.encode`."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if missing:
            self._vectors.update(zip(missing, self._encoder.encode(missing), strict=True))
        out_ND = np.empty((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            out_ND[row] = self._vectors[text]
            self._vectors.move_to_end(text)
        while len(self._vectors) > self._max_texts:
            self._vectors.popitem(last=False)
        return out_ND

    def forget(self) -> None:
        """Drop everything.

        A vector differs in its last bits with the texts that were computed beside it. Who
        resumes from a checkpoint remembers nothing, so forgetting at each checkpoint is what
        makes a killed and resumed run equal to one that was not.
        """
        self._vectors.clear()
