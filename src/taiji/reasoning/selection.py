"""Open-ended rejection sampling: which chains of thought survive (end of section 3.1).

A chain is kept iff PPL < R, strictly. R is a quantile (the paper: the median) of the
perplexities of a sample, so between none and all k chains of one prompt survive. Pure NumPy.
"""

import numpy as np
from numpy.typing import NDArray

KEPT = "kept"


def threshold(
    perplexities_N: NDArray[np.float64], *, quantile: float, sample: int, seed: int
) -> float:
    """R: the quantile of at most `sample` perplexities, drawn without replacement.

    Raises:
        ValueError: There is nothing to draw from.
    """
    if perplexities_N.size == 0:
        raise ValueError("no perplexities to take a threshold of")
    drawn = perplexities_N
    if perplexities_N.size > sample:
        drawn = np.random.default_rng(seed).choice(perplexities_N, size=sample, replace=False)
    return float(np.quantile(drawn, quantile))


def verdict(
    perplexity: float | None, status: str, leak: str | None, *, threshold: float, drop_leaks: bool
) -> str:
    """Why a chain is kept or not: `kept`, `perplexity`, `leak: <rule>` or `status: <status>`.

    The first reason that applies is given, in the order status, leak, perplexity.

    Args:
        perplexity: None exactly where the status is not `ok`.
        status: How the teacher ended.
        leak: The rule of the leakage guard that fired.
        threshold: R.
        drop_leaks: Whether a leak is a reason at all.
    """
    if status != "ok" or perplexity is None:
        return f"status: {status}"
    if leak is not None and drop_leaks:
        return f"leak: {leak}"
    return KEPT if perplexity < threshold else "perplexity"
