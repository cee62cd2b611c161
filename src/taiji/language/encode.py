"""Text to vectors, behind one protocol: Eq. 3, grounding and the ranking features rest on it.

Shape suffixes: N texts, U distinct texts, D dimensions.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from taiji.arrays import Vectors
from taiji.config import Compute
from taiji.errors import DivergenceError, EngineError
from taiji.language.workers import Worker, work
from taiji.store.exhausted import ran_out

PIECE_TEXTS = 1024


class TextEncoder(Protocol):
    """Anything that turns texts into unit vectors."""

    name: str
    dimension: int

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Encode texts to (N, D): rows of length 1, so that a dot product is a cosine.

        A text without words gets the zero vector: its cosine to everything is 0.
        """


class SentenceEncoder:
    """A sentence-transformers model, found by the same names as language models.

    Attributes:
        name: The name that it was asked for by.
        dimension: D.
    """

    def __init__(self, name: str, batch_size: int = 32) -> None:
        """Load the model; a folder without any look at the network.

        Raises:
            EngineError: It cannot be found or read.
        """
        # Both load PyTorch, which whoever only reads vectors has no use for.
        from sentence_transformers import SentenceTransformer

        from taiji.language.models import quiet_loading, resolve_model

        source = resolve_model(name)
        local = isinstance(source, Path)
        try:
            with quiet_loading():
                self._model = SentenceTransformer(
                    str(source), local_files_only=local, trust_remote_code=False
                )
            self.dimension = int(self._model.encode(["width"], show_progress_bar=False).shape[1])
        except Exception as error:  # a folder may hold anything, and loaders fail in as many ways
            if ran_out(error):
                raise
            mend = "check that the folder is complete" if local else "check name and network"
            raise EngineError(f"encoder {name!r}: cannot be loaded: {error}: {mend}") from error
        self.name = name
        self._batch_size = batch_size

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See `TextEncoder.encode`. Each distinct text is computed once.

        Text beyond the model's own limit (256 tokens for MiniLM) does not count.

        Raises:
            DivergenceError: A vector is not made of numbers.
        """
        distinct = {text: None for text in texts if text.strip()}
        rows = {text: row for row, text in enumerate(distinct)}
        vectors_UD = np.zeros((len(rows) + 1, self.dimension), np.float32)  # the last stays zero
        if rows:
            vectors_UD[:-1] = self._model.encode(
                list(rows),
                batch_size=self._batch_size,
                normalize_embeddings=True,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
        if not np.isfinite(vectors_UD).all():
            raise DivergenceError(f"encoder {self.name}: a vector is not finite")
        return vectors_UD[[rows.get(text, len(rows)) for text in texts]]


def encode_texts(
    compute: Compute, load: Callable[[], TextEncoder], texts: Sequence[str]
) -> Vectors:
    """Vectors (N, D) of texts, computed wherever `compute` says.

    Args:
        compute: Where.
        load: Makes the encoder, once for each worker.
        texts: At least one. Each distinct text is computed once.
    """
    distinct = list(dict.fromkeys(texts))
    starts = range(0, len(distinct), PIECE_TEXTS)
    pieces = {n: distinct[start : start + PIECE_TEXTS] for n, start in enumerate(starts)}
    parts = dict(work(compute, partial(encoding, load), pieces))
    rows = {text: row for row, text in enumerate(distinct)}
    vectors: Vectors = np.concatenate([parts[number] for number in pieces])
    return vectors[[rows[text] for text in texts]]


def encoding(load: Callable[[], TextEncoder]) -> Worker[Sequence[str], Vectors]:
    """Whoever encodes, made where the work is done."""
    encoder = load()
    return lambda texts, note: encoder.encode(texts)
