"""Measures with the influence of each user, so that a thousand draws of users cost one product.

A measure that is smooth in the users' weights w (1 a user, a count in a resample) is, near w = 1,
value + sum_u (w_u - 1) influence_u. Hundreds of stacked models can then be compared on the same
draws for one sort each (the infinitesimal jackknife; for the AUC: DeLong et al. 1988, clustered by
users as in Obuchowski 1997). The exact bootstrap of `evaluation.metrics` is what it stands in for.

Shape suffixes: N rows, U users, R draws.
"""

from dataclasses import dataclass

import numpy as np

from taiji.arrays import Array, Ints
from taiji.evaluation.metrics import auc_of_users


@dataclass(frozen=True)
class Influence:
    """A measure, and by how much a further copy of each user moves it."""

    value: float
    users_U: Array

    def __sub__(self, other: "Influence") -> "Influence":
        """The difference on the same users."""
        return Influence(self.value - other.value, self.users_U - other.users_U)

    def draws(self, extra_RU: Array) -> Array:
        """The measure on draws of users.

        Args:
            extra_RU: How often each draw holds each user, minus 1.
        """
        return np.asarray(self.value + extra_RU @ self.users_U, dtype=np.float64)


def extra_users(num_users: int, resamples: int, seed: int) -> Array:
    """(R, U): draws of all users with replacement, as copies beyond the first."""
    random = np.random.default_rng(seed)
    counts = [
        np.bincount(random.integers(num_users, size=num_users), minlength=num_users)
        for _ in range(resamples)
    ]
    return np.array(counts, dtype=np.float64).reshape(resamples, num_users) - 1.0


def auc_influence(
    labels_N: Array, scores_N: Array, user_N: Ints, num_users: int, order: Ints | None = None
) -> Influence:
    """Area under the ROC curve, ties counted half; NaN if one class is missing.

    A positive row moves it by (share of negatives below - AUC) / positives, a negative one by
    (share of positives above - AUC) / negatives.

    Args: as `evaluation.metrics.auc_of_users` has them.
    """
    order = np.argsort(scores_N, kind="stable") if order is None else order
    label = labels_N[order]
    first = np.flatnonzero(np.diff(scores_N[order], prepend=-np.inf))
    up, total = label.sum(), float(label.size)
    down = total - up
    if not (first.size and up > 0 and down > 0):
        return Influence(float("nan"), np.zeros(num_users))
    up_T, down_T = (np.add.reduceat(part, first) for part in (label, 1 - label))
    below_T = np.cumsum(down_T) - down_T / 2
    above_T = up - np.cumsum(up_T) + up_T / 2
    tie_N = np.repeat(np.arange(first.size), np.diff(np.append(first, label.size)))
    value = float((up_T * below_T).sum() / (up * down))
    moved_N = np.where(
        label > 0, (below_T[tie_N] / down - value) / up, (above_T[tie_N] / up - value) / down
    )
    moved_U = np.bincount(user_N[order], moved_N, minlength=num_users).astype(np.float64)
    return Influence(value, moved_U)


def gauc_influence(
    labels_N: Array, scores_N: Array, user_N: Ints, num_users: int, order: Ints | None = None
) -> Influence:
    """AUC inside each user, averaged by rows; users with one class are left out.

    Args: as `evaluation.metrics.auc_of_users` has them.
    """
    auc_U = auc_of_users(labels_N, scores_N, user_N, num_users, order)
    rows_U = np.bincount(user_N, minlength=num_users).astype(np.float64)
    defined = ~np.isnan(auc_U)
    return _average(np.where(defined, auc_U, 0.0), np.where(defined, rows_U, 0.0))


def mean_influence(values_N: Array, user_N: Ints, num_users: int) -> Influence:
    """The mean over all rows."""
    rows_U = np.bincount(user_N, minlength=num_users).astype(np.float64)
    sums_U = np.bincount(user_N, values_N, minlength=num_users)
    return _average(np.divide(sums_U, rows_U, out=np.zeros(num_users), where=rows_U > 0), rows_U)


def _average(values_U: Array, weights_U: Array) -> Influence:
    total = weights_U.sum()
    if not total > 0:
        return Influence(float("nan"), np.zeros(values_U.size))
    value = float((values_U * weights_U).sum() / total)
    return Influence(value, weights_U * (values_U - value) / total)
