"""Embeddings remembered within a run: a policy writes the same answers again and again."""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from taiji.language.encode import TextEncoder, Vectors


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
