"""Weights from TorchJD's Gramian weightings: MGDA and CAGrad, through its public interface.

They look at the inner products of the gradients of one step and keep no memory. An optional
extra, because CAGrad brings a convex solver along.

Shape suffixes: K rewards.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from taiji.alignment.popo.weights import Array
from taiji.errors import EngineError

GramianWeighting = Callable[[Array], Array | None]
"""From <g_i, g_j> to weights on the simplex; None where no direction is better than another."""


def gramian_weighting(kind: Literal["mgda", "cagrad"], *, cagrad_c: float) -> GramianWeighting:
    """The weighting of that name.

    The Gram matrix is divided by its trace first: the answer does not depend on the scale, but
    TorchJD's thresholds do, and gradients of a policy are small. Weights are divided by their
    sum: MGDA's sum to 1 already, CAGrad's exceed it, and what is lost is a factor on the length
    of the step, which is the learning rate's to choose.

    Args:
        kind: `mgda`: the convex combination of least norm (Frank-Wolfe); it favours the shorter
            gradients. `cagrad`: near the mean gradient, the direction that helps the worst-off.
        cagrad_c: Radius of CAGrad's ball, in lengths of the mean gradient.

    Raises:
        EngineError: TorchJD, or the solver of CAGrad, is not installed.
    """
    try:
        from torchjd.aggregation import CAGradWeighting, MGDAWeighting

        weighting = MGDAWeighting() if kind == "mgda" else CAGradWeighting(c=cagrad_c)
    except ImportError as error:
        raise EngineError(
            f"rule {kind}: needs TorchJD: pip install 'taiji-rec[torchjd]'"
        ) from error

    def solve(gram_KK: Array) -> Array | None:
        trace = np.trace(gram_KK)
        if trace == 0:
            return None
        weights_K: Array = weighting(torch.from_numpy(gram_KK / trace)).numpy()
        total = weights_K.sum()
        return None if total == 0 else weights_K / total

    return solve
