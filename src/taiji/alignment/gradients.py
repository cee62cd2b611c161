"""How the rewards' gradients relate: the Gram matrix, norms, cosines.

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

_CHUNK = 1 << 12


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
