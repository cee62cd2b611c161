"""How well a chain of thought leads to the true answer: perplexity (Eq. 1) and two variants.

Shape suffix: T answer tokens. Pure NumPy: which tokens are the answer, and what stood before
them, is the business of `taiji.language.scoring`. A *loss* is minus a natural log-probability.
"""

import numpy as np

from taiji.arrays import Array
from taiji.errors import DivergenceError


def perplexity(logprobs_T: Array) -> float:
    """PPL = exp(-(1/T) sum_t log P(y_t | context, y_<t)) (Eq. 1).

    Args:
        logprobs_T: Natural log-probabilities of the answer's tokens, and of nothing else.

    Raises:
        ValueError: There are no tokens, so no mean.
        DivergenceError: A log-probability or the result is NaN or infinite.
    """
    return _exponential(mean_loss(logprobs_T))


def clipped_perplexity(logprobs_T: Array, clip: float) -> float:
    """Eq. 1 with each token's loss cut at `clip` nats.

    One token that no chain can foresee, such as a pack size, then cannot decide alone. Not in
    the paper.

    Args:
        logprobs_T: As for `perplexity`.
        clip: Above 0.

    Raises:
        ValueError: There are no tokens, so no mean.
        DivergenceError: A log-probability is NaN or infinite.
    """
    mean_loss(logprobs_T)  # cutting would hide an infinite loss
    return _exponential(float(np.minimum(-logprobs_T, clip).mean(dtype=np.float64)))


def gain(logprobs_T: Array, bare_T: Array) -> float:
    """How many nats a token the chain saves: the mean loss without a chain minus that with it.

    Eq. 1 also favours answers that are easy without any chain; this is what the chain adds.
    Below 0 the chain hurts. Not in the paper.

    Args:
        logprobs_T: As for `perplexity`, with the chain.
        bare_T: Of the same tokens behind an empty chain.

    Raises:
        ValueError: There are no tokens, or not the same number.
        DivergenceError: A log-probability is NaN or infinite.
    """
    if logprobs_T.size != bare_T.size:
        raise ValueError(f"gain of {logprobs_T.size} tokens over {bare_T.size} others")
    return mean_loss(bare_T) - mean_loss(logprobs_T)


def mean_loss(logprobs_T: Array) -> float:
    """-(1/T) sum_t log P, in nats a token.

    Raises:
        ValueError: There are no tokens, so no mean.
        DivergenceError: It is NaN or infinite.
    """
    if logprobs_T.size == 0:
        raise ValueError("perplexity of an answer without tokens")
    mean = -float(np.mean(logprobs_T, dtype=np.float64))
    if not np.isfinite(mean):
        raise DivergenceError(f"perplexity: mean log-probability {-mean}: the scorer is broken")
    return mean


def _exponential(loss: float) -> float:
    if loss > np.log(np.finfo(np.float64).max):
        raise DivergenceError(f"perplexity: mean log-probability {-loss}: the scorer is broken")
    return float(np.exp(loss))
