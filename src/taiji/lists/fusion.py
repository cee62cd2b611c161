"""Several opinions about what comes next, weighed: conditional logit over the catalogue's titles.

P(title j | example) = exp(beta . f_j) / sum_j' exp(beta . f_j'), beta fitted by maximum likelihood
on examples that lie before those to be judged. Which part of it is the language model's is seen
by fitting it once more without the language model's features.

Shape suffixes: E examples, C titles, F features. Pure NumPy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taiji.arrays import Array
from taiji.errors import DivergenceError

_RIDGE = 1.0  # of standardised weights: worth about one example
_STEPS = 50
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Choice:
    """One example to learn from.

    Attributes:
        features_CF: Of every title.
        open_C: Titles that can be chosen at all.
        chosen: The title that was.
    """

    features_CF: NDArray[np.float32]
    open_C: NDArray[np.bool_]
    chosen: int


@dataclass(frozen=True)
class Fusion:
    """A fitted conditional logit.

    Attributes:
        names: Of the features.
        weights_F: beta, of features as they come.
        num_choices: Examples that it was fitted on.
    """

    names: tuple[str, ...]
    weights_F: Array
    num_choices: int

    def logits(self, features_CF: NDArray[np.float32]) -> Array:
        """beta . f of each title."""
        logits_C: Array = features_CF.astype(np.float64) @ self.weights_F
        return logits_C


def fit_fusion(choices: Sequence[Choice], names: Sequence[str]) -> Fusion:
    """Fit beta by Newton's method, with a ridge on weights of standardised features.

    Args:
        choices: A choice whose chosen title is not open says nothing and is left out.
        names: Of the F features.

    Raises:
        ValueError: No choice is left.
        DivergenceError: A feature is not finite.
    """
    usable = [choice for choice in choices if choice.open_C[choice.chosen]]
    if not usable:
        raise ValueError("no example whose true title is among those that can be chosen")
    scale_F = _spread(usable)
    if not np.isfinite(scale_F).all():
        raise DivergenceError("fusion: a feature is not finite")
    beta_F = np.zeros(len(names))
    value, gradient_F, hessian_FF = _objective(usable, scale_F, beta_F)
    for _ in range(_STEPS):
        step_F = np.linalg.solve(hessian_FF, gradient_F)
        size = 1.0
        while size > _TOLERANCE:
            tried = _objective(usable, scale_F, beta_F - size * step_F)
            if tried[0] <= value:
                break
            size /= 2
        else:
            break
        beta_F, gain = beta_F - size * step_F, value - tried[0]
        value, gradient_F, hessian_FF = tried
        if gain < _TOLERANCE:
            break
    return Fusion(tuple(names), beta_F / scale_F, len(usable))


def softmax(logits_C: Array, open_C: NDArray[np.bool_]) -> Array:
    """Probabilities over the open titles, 0 elsewhere."""
    if not open_C.any():
        return np.zeros(logits_C.size)
    shifted_C = np.where(open_C, logits_C - logits_C[open_C].max(), -np.inf)
    weight_C = np.exp(shifted_C)
    probability_C: Array = weight_C / weight_C.sum()
    return probability_C


def _spread(choices: Sequence[Choice]) -> Array:
    """Standard deviation of each feature inside an example; 1 where a feature never varies."""
    variance_F = np.mean(
        [choice.features_CF[choice.open_C].var(axis=0, dtype=np.float64) for choice in choices],
        axis=0,
    )
    return np.where(variance_F == 0, 1.0, np.sqrt(variance_F))  # NaN stays, to be found


def _objective(
    choices: Sequence[Choice], scale_F: Array, beta_F: Array
) -> tuple[float, Array, Array]:
    """Negative log-likelihood with its ridge, its gradient and its Hessian."""
    value = 0.5 * _RIDGE * float(beta_F @ beta_F)
    gradient_F, hessian_FF = _RIDGE * beta_F, _RIDGE * np.eye(beta_F.size)
    for choice in choices:
        f_CF = choice.features_CF[choice.open_C] / scale_F
        chosen = int(choice.open_C[: choice.chosen].sum())
        logits_C = f_CF @ beta_F
        top = logits_C.max()
        weight_C = np.exp(logits_C - top)
        total = weight_C.sum()
        p_C = weight_C / total
        mean_F = p_C @ f_CF
        value += float(top + np.log(total) - logits_C[chosen])
        gradient_F = gradient_F + mean_F - f_CF[chosen]
        hessian_FF = hessian_FF + (f_CF * p_C[:, None]).T @ f_CF - np.outer(mean_F, mean_F)
    return value, gradient_F, hessian_FF
