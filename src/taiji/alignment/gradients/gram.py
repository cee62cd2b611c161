"""Sums of the rewards' gradients, and how they relate: the Gram matrix, norms, cosines.

Shape suffixes: K rewards, C chunks, N numbers. A gradient is a tuple of tensors, one for each
trainable parameter, so that nothing is ever flattened into one K x (all parameters) matrix.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from taiji.errors import DivergenceError

Array = NDArray[np.float64]
Gradient = Sequence[torch.Tensor]

_CHUNK = 1 << 10


class GradientSum:
    """A sum that keeps the first gradient as it is.

    Zeros to add to would be written once and read once for every weight; on a CPU that was a
    tenth of a step. What a backward pass hands out may be shared between weights, so the second
    gradient is added out of place, and only what is the sum's own is added to in place.

    Args:
        parameters: What the gradients are taken for.
    """

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        self._parameters = parameters
        self._parts: list[torch.Tensor | None] = [None] * len(parameters)
        self._own = [False] * len(parameters)

    def add(self, place: int, part: torch.Tensor) -> None:
        """Add the gradient of one parameter, named by its place among them."""
        held = self._parts[place]
        if held is None:
            self._parts[place] = part
        elif self._own[place]:
            held.add_(part)
        else:
            self._parts[place], self._own[place] = held + part, True

    def add_all(self, gradient: Gradient) -> None:
        """Add the gradients of all parameters."""
        for place, part in enumerate(gradient):
            self.add(place, part)

    def tensors(self) -> list[torch.Tensor]:
        """The sum, zero where nothing was added; not to be written to."""
        pairs = zip(self._parts, self._parameters, strict=True)
        return [torch.zeros_like(p) if part is None else part for part, p in pairs]


def gram(gradients: Sequence[Gradient]) -> Array:
    """All inner products <g_i, g_j> of K gradients.

    Products are taken in fp32 over short chunks and summed in fp64: a single fp32 sum over a
    hundred million parameters loses three digits, fp64 copies of the gradients cost memory.

    Args:
        gradients: K gradients with tensors of equal shapes, in the same order.

    Returns:
        Symmetric matrix, K x K.

    Raises:
        DivergenceError: A product is NaN or infinite; names the first reward concerned.
    """
    sums_KK = torch.zeros(len(gradients), len(gradients), dtype=torch.float64)
    for tensors in zip(*gradients, strict=True):
        block_KN = torch.stack([tensor.detach().reshape(-1).float() for tensor in tensors])
        sums_KK = sums_KK.to(block_KN.device)  # no copy after the first: nothing waits in the loop
        whole = block_KN.shape[1] // _CHUNK * _CHUNK
        chunks_CKN = block_KN[:, :whole].reshape(len(gradients), -1, _CHUNK).transpose(0, 1)
        sums_KK += torch.bmm(chunks_CKN, chunks_CKN.transpose(1, 2)).sum(0, dtype=torch.float64)
        rest_KN = block_KN[:, whole:]
        sums_KK += rest_KN @ rest_KN.T
    total_KK: Array = sums_KK.cpu().numpy()
    bad = np.flatnonzero(~np.isfinite(np.diag(total_KK)))
    if bad.size:
        raise DivergenceError(f"POPO: the gradient of reward {bad[0]} is NaN or infinite")
    return total_KK


def cosines(gram_KK: Array) -> Array:
    """cos(g_i, g_j) for all pairs, K x K; 0 where a gradient vanishes."""
    norm_K = np.sqrt(np.diag(gram_KK))
    scale_KK = np.outer(norm_K, norm_K)
    cosine_KK: Array = np.zeros_like(gram_KK)
    np.divide(gram_KK, scale_KK, out=cosine_KK, where=scale_KK > 0)
    return cosine_KK


def norms(gram_KK: Array) -> Array:
    """|g_k| for each reward."""
    return np.asarray(np.sqrt(np.diag(gram_KK)), dtype=np.float64)
