"""Perplexity of the true answer given a chain of thought (Eq. 1).

Shape suffix: T answer tokens. Pure NumPy: which tokens are the answer, and what stood before
them, is the business of `taiji.reasoning.scoring`.
"""

import numpy as np
from numpy.typing import NDArray

from taiji.errors import DivergenceError


def perplexity(logprobs_T: NDArray[np.float64]) -> float:
    """PPL = exp(-(1/T) sum_t log P(y_t | context, y_<t)) (Eq. 1).

    Args:
        logprobs_T: Natural log-probabilities of the answer's tokens, and of nothing else.

    Raises:
        ValueError: There are no tokens, so no mean.
        DivergenceError: A log-probability or the result is NaN or infinite.
    """
    if logprobs_T.size == 0:
        raise ValueError("perplexity of an answer without tokens")
    mean = float(np.mean(logprobs_T, dtype=np.float64))
    if not np.isfinite(mean) or -mean > np.log(np.finfo(np.float64).max):
        raise DivergenceError(f"perplexity: mean log-probability {mean}: the scorer is broken")
    return float(np.exp(-mean))
