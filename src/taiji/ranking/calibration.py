"""Platt scaling: sigmoid(slope * logit + shift), fitted once and then frozen.

Two parameters with a weak pull towards the identity, so that a handful of conversions cannot
overturn the model. The slope is positive by construction: calibration never changes a ranking.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taiji.errors import DivergenceError

Array = NDArray[np.float64]

_PULL = 1.0  # precision of the prior on log(slope) and shift
_MAX_STEPS = 100
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Platt:
    """A monotone map from logits to probabilities."""

    log_slope: float = 0.0
    shift: float = 0.0

    def apply(self, logits_N: Array) -> Array:
        """Calibrated probabilities."""
        return _sigmoid(np.exp(self.log_slope) * logits_N + self.shift)

    @classmethod
    def fit(cls, logits_N: Array, labels_N: Array) -> "Platt":
        """Newton's method with halved steps on the penalised log-likelihood.

        Raises:
            DivergenceError: A logit is NaN or infinite.
        """
        if not np.isfinite(logits_N).all():
            raise DivergenceError("calibration: a logit of the ranking model is not finite")
        at = np.zeros(2)
        loss = _penalised_loss(at, logits_N, labels_N)
        for _ in range(_MAX_STEPS):
            step = _newton_step(at, logits_N, labels_N)
            while (smaller := _penalised_loss(at - step, logits_N, labels_N)) > loss:
                step = step / 2
                if np.abs(step).max() < _TOLERANCE:
                    return cls(float(at[0]), float(at[1]))
            at, loss = at - step, smaller
            if np.abs(step).max() < _TOLERANCE:
                break
        return cls(float(at[0]), float(at[1]))


def _penalised_loss(at: Array, logits_N: Array, labels_N: Array) -> float:
    z = np.exp(at[0]) * logits_N + at[1]
    return float((np.logaddexp(0, z) - labels_N * z).sum() + _PULL * (at @ at) / 2)


def _newton_step(at: Array, logits_N: Array, labels_N: Array) -> Array:
    """The step by the expected curvature, which is positive wherever we are."""
    scaled = np.exp(at[0]) * logits_N  # also the derivative of z with respect to log(slope)
    p = _sigmoid(scaled + at[1])
    slopes = np.stack([scaled, np.ones_like(scaled)])
    gradient = slopes @ (p - labels_N) + _PULL * at
    curvature = (slopes * (p * (1 - p))) @ slopes.T + _PULL * np.eye(2)
    return np.linalg.solve(curvature, gradient)


def _sigmoid(z: Array) -> Array:
    return np.exp(-np.logaddexp(0, -z))
