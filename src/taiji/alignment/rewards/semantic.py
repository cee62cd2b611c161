"""The semantic reward r_s: how near an answer is to the true next item (Eq. 3).

Pure NumPy. Shape suffixes: N answers, D dimensions.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from taiji.arrays import Array
from taiji.errors import DivergenceError


def semantic_reward(answers_ND: NDArray[Any], targets_ND: NDArray[Any]) -> Array:
    """r_s = cos(emb(answer), emb(true item text)), row by row (Eq. 3).

    A zero vector, which encoders return for empty text, earns 0.

    Raises:
        DivergenceError: An embedding is NaN or infinite.
    """
    answers_ND, targets_ND = answers_ND.astype(np.float64), targets_ND.astype(np.float64)
    scale_N = np.linalg.norm(answers_ND, axis=1) * np.linalg.norm(targets_ND, axis=1)
    dot_N = (answers_ND * targets_ND).sum(axis=1)
    if not (np.isfinite(scale_N).all() and np.isfinite(dot_N).all()):
        raise DivergenceError("semantic reward: an embedding is NaN or infinite")
    cosine_N = np.divide(dot_N, scale_N, out=np.zeros_like(dot_N), where=scale_N > 0)
    return np.asarray(cosine_N.clip(-1.0, 1.0), dtype=np.float64)
