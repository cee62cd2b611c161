"""The arrays that go from hand to hand; what their axes are, each file's shape suffixes say."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Vectors = NDArray[np.float32]
"""Embeddings and features, of which there are many: half the bytes of `Array`."""
