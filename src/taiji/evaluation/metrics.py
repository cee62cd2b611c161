"""The measures of the paper's tables, with intervals over users. Pure NumPy.

Shape suffixes: N rows (impressions or answers), U users, C catalogue rows, L category levels,
D dimensions.

Measures that are judged by a bootstrap come as a *statistic*: a function of one weight a row,
prepared once, so that a thousand resamples cost a thousand cheap sums and no sorting.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taiji.arrays import Array, Ints

Statistic = Callable[[Array], float]

_CHUNK_ROWS = 256


@dataclass(frozen=True)
class Interval:
    """A measure and its percentile interval; NaN where a measure is not defined."""

    value: float
    low: float
    high: float


def auc(labels_N: ArrayLike, scores_N: ArrayLike) -> float:
    """Area under the ROC curve, ties counted half; NaN if one class is missing."""
    statistic = auc_statistic(labels_N, scores_N)
    return statistic(np.ones(np.asarray(labels_N).size))


def auc_statistic(labels_N: ArrayLike, scores_N: ArrayLike) -> Statistic:
    """AUC as a function of row weights: P(score+ > score-) + P(score+ = score-) / 2."""
    labels, scores = _labels_and_scores(labels_N, scores_N)
    order = np.argsort(scores, kind="stable")
    positive = labels[order]
    first = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # where a new score begins

    def statistic(weights_N: Array) -> float:
        weights = weights_N[order]
        if not first.size:
            return float("nan")
        up = np.add.reduceat(weights * positive, first)
        down = np.add.reduceat(weights * (1 - positive), first)
        pairs = up.sum() * down.sum()
        below = np.cumsum(down) - down / 2
        return float((up * below).sum() / pairs) if pairs > 0 else float("nan")

    return statistic


def gauc(labels_N: ArrayLike, scores_N: ArrayLike, users_N: ArrayLike) -> float:
    """AUC inside each user, averaged by impressions; users with one class are left out."""
    statistic = gauc_statistic(labels_N, scores_N, users_N)
    return statistic(np.ones(np.asarray(labels_N).size))


def gauc_statistic(labels_N: ArrayLike, scores_N: ArrayLike, users_N: ArrayLike) -> Statistic:
    """GAUC as a function of row weights that are equal within a user."""
    labels, scores = _labels_and_scores(labels_N, scores_N)
    _, first_U, user_N = np.unique(np.asarray(users_N), return_index=True, return_inverse=True)
    value_U = auc_of_users(labels, scores, user_N, first_U.size)
    defined = ~np.isnan(value_U)
    rows_U = np.bincount(user_N, minlength=first_U.size)[defined]
    value_U, first_U = value_U[defined], first_U[defined]

    def statistic(weights_N: Array) -> float:
        weight_U = rows_U * weights_N[first_U]
        return float(np.average(value_U, weights=weight_U)) if weight_U.sum() > 0 else np.nan

    return statistic


def auc_of_users(
    labels_N: Array, scores_N: Array, user_N: Ints, num_users: int, order: Ints | None = None
) -> Array:
    """(U,) AUC inside each user, ties counted half; NaN where one class is missing.

    Args:
        labels_N: 0 or 1.
        scores_N: Any.
        user_N: A number for each user.
        num_users: U.
        order: Rows by rising score, if the caller has sorted them.
    """
    order = np.argsort(scores_N, kind="stable") if order is None else order
    small = np.uint16 if num_users <= np.iinfo(np.uint16).max else np.int64  # sorts by radix
    order = order[np.argsort(user_N[order].astype(small), kind="stable")]
    label, score, user = labels_N[order], scores_N[order], user_N[order]
    new = (np.diff(user, prepend=-1) != 0) | (np.diff(score, prepend=np.nan) != 0)
    first_T = np.flatnonzero(new)  # of each group of ties
    rows_U = np.bincount(user, minlength=num_users).astype(np.float64)
    starts_U = np.cumsum(rows_U) - rows_U
    size_T = np.diff(np.append(first_T, label.size))
    rank_T = first_T - starts_U[user[first_T]] + (size_T + 1) / 2  # 1 for the lowest
    up_U = np.bincount(user, label, minlength=num_users)
    pairs_U = up_U * (rows_U - up_U)
    sum_U = np.bincount(user, label * np.repeat(rank_T, size_T), minlength=num_users)
    above_U = sum_U - up_U * (up_U + 1) / 2
    nowhere_U = np.full(num_users, np.nan)
    return np.asarray(np.divide(above_U, pairs_U, out=nowhere_U, where=pairs_U > 0))


def log_loss(labels_N: ArrayLike, probabilities_N: ArrayLike) -> float:
    """Mean binary cross-entropy in nats."""
    return float(log_losses(labels_N, probabilities_N).mean())


def log_losses(labels_N: ArrayLike, probabilities_N: ArrayLike) -> Array:
    """Binary cross-entropy of each row, the probability kept off 0 and 1 by float32's epsilon."""
    labels, p = _labels_and_scores(labels_N, probabilities_N)
    epsilon = float(np.finfo(np.float32).eps)
    p = np.clip(p, epsilon, 1 - epsilon)
    return -(labels * np.log(p) + (1 - labels) * np.log1p(-p))


def ece(labels_N: ArrayLike, probabilities_N: ArrayLike, *, bins: int = 20) -> float:
    """Expected calibration error over bins of equal count: mean |predicted - actual|.

    NaN without a row. Bins of equal width would put nearly all conversions into the first one.
    """
    labels, p = _labels_and_scores(labels_N, probabilities_N)
    if not labels.size:
        return float("nan")
    order = np.argsort(p, kind="stable")
    parts = [rows for rows in np.array_split(order, bins) if rows.size]
    return float(sum(abs(float((p[rows] - labels[rows]).sum())) for rows in parts) / labels.size)


def calibration_ratio(labels_N: ArrayLike, probabilities_N: ArrayLike) -> float:
    """Predicted over actual events; 1 is calibrated in the large, NaN without an event."""
    actual = float(np.sum(np.asarray(labels_N, dtype=np.float64)))
    return (
        float(np.sum(np.asarray(probabilities_N, dtype=np.float64))) / actual if actual else np.nan
    )


def category_hits(
    predicted_NL: Sequence[Sequence[str | None]], true_NL: Sequence[Sequence[str | None]]
) -> Array:
    """1 where a path agrees down to a level, else 0; NaN where the truth has no such level.

    One name may stand under two parents, so a level counts only if all above it agree too.
    """
    if len(predicted_NL) != len(true_NL):
        raise ValueError(f"{len(predicted_NL)} predictions for {len(true_NL)} true paths")
    rows = []
    for predicted, true in zip(predicted_NL, true_NL, strict=True):
        agree, row = True, []
        for guess, truth in zip(predicted, true, strict=True):
            agree = agree and guess == truth
            row.append(float("nan") if truth is None else float(agree))
        rows.append(row)
    return np.array(rows, dtype=np.float64)


def title_ranks(
    answers_ND: NDArray[np.float32],
    catalogue_CD: NDArray[np.float32],
    titles_C: Sequence[str],
    true_titles_N: Sequence[str],
) -> NDArray[np.int64]:
    """Rank, from 1, of the true title among the distinct titles by cosine to the answer.

    Rows are unit vectors; a title counts with its nearest row. Ties rank behind, so that an
    empty answer (a zero vector, equally far from everything) hits nothing.

    Raises:
        ValueError: A true title is not in the catalogue.
    """
    distinct, title_of_row = np.unique(np.array(titles_C, dtype=str), return_inverse=True)
    place = {title: index for index, title in enumerate(distinct.tolist())}
    missing = [title for title in true_titles_N if title not in place]
    if missing:
        raise ValueError(
            f"{len(missing)} true titles are not in the catalogue, e.g. {missing[0]!r}"
        )
    true_N = np.array([place[title] for title in true_titles_N], dtype=np.int64)
    order = np.argsort(title_of_row, kind="stable")
    starts = np.flatnonzero(np.diff(title_of_row[order], prepend=-1))
    ranks_N = np.empty(len(true_titles_N), dtype=np.int64)
    for begin in range(0, ranks_N.size, _CHUNK_ROWS):
        rows = slice(begin, begin + _CHUNK_ROWS)
        cosines = np.maximum.reduceat((answers_ND[rows] @ catalogue_CD.T)[:, order], starts, axis=1)
        own = np.take_along_axis(cosines, true_N[rows, None], axis=1)
        ranks_N[rows] = (cosines >= own).sum(axis=1)
    return ranks_N


def mean_statistic(values_N: ArrayLike) -> Statistic:
    """The mean as a function of row weights, over the rows that are not NaN."""
    values = np.asarray(values_N, dtype=np.float64)
    defined = ~np.isnan(values)

    def statistic(weights_N: Array) -> float:
        total = weights_N[defined].sum()
        return float((weights_N[defined] * values[defined]).sum() / total) if total > 0 else np.nan

    return statistic


def bootstrap_draws(
    statistic: Statistic, users_N: ArrayLike, *, resamples: int, seed: int
) -> Array:
    """The statistic when whole users are drawn with replacement, once for each resample.

    Rows of one user are not independent, so users are the unit. One seed draws the same users
    for every statistic: the difference of two statistics' draws is paired.
    """
    names, user = np.unique(np.asarray(users_N), return_inverse=True)
    random = np.random.default_rng(seed)
    draws = np.empty(resamples)
    for index in range(resamples):
        count_U = np.bincount(random.integers(names.size, size=names.size), minlength=names.size)
        draws[index] = statistic(count_U[user].astype(np.float64))
    return draws


def percentile_interval(value: float, draws: Array, *, level: float = 0.95) -> Interval:
    """The middle `level` of the draws; those in which the statistic is not defined do not count."""
    draws = draws[~np.isnan(draws)]
    if not draws.size:
        return Interval(value, np.nan, np.nan)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def bootstrap_interval(
    statistic: Statistic, users_N: ArrayLike, *, resamples: int, seed: int
) -> Interval:
    """95 % interval of a statistic over users."""
    draws = bootstrap_draws(statistic, users_N, resamples=resamples, seed=seed)
    return percentile_interval(statistic(np.ones(np.asarray(users_N).size)), draws)


def bootstrap_difference(
    treatment: Statistic, control: Statistic, users_N: ArrayLike, *, resamples: int, seed: int
) -> Interval:
    """95 % interval of treatment - control on the same draws of users (paired)."""

    def difference(weights_N: Array) -> float:
        return treatment(weights_N) - control(weights_N)

    return bootstrap_interval(difference, users_N, resamples=resamples, seed=seed)


def _labels_and_scores(labels_N: ArrayLike, scores_N: ArrayLike) -> tuple[Array, Array]:
    labels = np.asarray(labels_N, dtype=np.float64)
    scores = np.asarray(scores_N, dtype=np.float64)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} must be equal and flat")
    if not np.isfinite(scores).all():
        raise ValueError("a score is NaN or infinite")
    if not np.isin(labels, (0.0, 1.0)).all():
        raise ValueError("a label is neither 0 nor 1")
    return labels, scores
