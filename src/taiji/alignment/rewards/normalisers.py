"""From a score to r_id: the popularity discount and the normalisers of Eq. 4.

Everything here is fitted once, on the simulation pool, and frozen: what a rollout earns never
depends on which other rollouts there were.
The paper's normaliser is `minmax`; all others and the discount are ours, and docs/rewards.md
says when each helps.

Shape suffixes: N scores, Q knots, U users, I items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from taiji.arrays import Array
from taiji.errors import DataError, DivergenceError

LinearKind = Literal["minmax", "quantile", "winsorised"]
Kind = Literal["minmax", "quantile", "winsorised", "log", "rank"]

_UPPER_QUANTILE = 0.999
_WINSORISED_SHARE = 0.01
_NUM_KNOTS = 1001
_LEAST_MEAN = 1e-3  # of the overall mean: what is rarer is not lifted further


@dataclass(frozen=True)
class Linear:
    """Between two frozen bounds, clipped (Eq. 4); `kind` says where the bounds come from.

    `minmax`: the smallest and the largest score of the pool, as in the paper. `quantile`: 0 and
    the 99.9 % quantile, so that one outlier does not decide how loud the reward is in the mix.
    `winsorised`: the 1 % and the 99 % quantile; what lies outside ties.
    """

    kind: LinearKind
    low: float
    high: float

    @classmethod
    def fit(cls, kind: LinearKind, pool_N: Array) -> "Linear":
        """Take the bounds from the pool."""
        match kind:
            case "minmax":
                low, high = float(pool_N.min()), float(pool_N.max())
            case "quantile":
                low, high = 0.0, float(np.quantile(pool_N, _UPPER_QUANTILE))
            case "winsorised":
                shares = [_WINSORISED_SHARE, 1 - _WINSORISED_SHARE]
                low, high = (float(bound) for bound in np.quantile(pool_N, shares))
        return cls(kind, *_checked_bounds(low, high))

    def apply(self, scores_N: Array) -> Array:
        """Scores on the pool's scale, in [0, 1]."""
        return _rescaled(_finite(scores_N), self.low, self.high)

    def to_json(self) -> dict[str, Any]:
        """What `normaliser_from_json` reads."""
        return {"kind": self.kind, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Log:
    """Min-max of log CTCVR: equal ratios of CTCVR earn equal steps.

    `low` and `high` are the smallest and the largest positive score of the pool; a score of 0
    earns 0. It pays a popular answer more than a linear scale does (docs/rewards.md).
    """

    kind: ClassVar[Literal["log"]] = "log"
    low: float
    high: float

    @classmethod
    def fit(cls, pool_N: Array) -> "Log":
        """Take the bounds from the positive scores of the pool."""
        positive_N = pool_N[pool_N > 0]
        if not positive_N.size:
            raise DataError("normaliser log: no score of the pool is above 0: use another one")
        return cls(*_checked_bounds(float(positive_N.min()), float(positive_N.max())))

    def apply(self, scores_N: Array) -> Array:
        """Logarithms on the pool's scale, in [0, 1]."""
        log_N = np.log(_finite(scores_N).clip(min=self.low))
        return _rescaled(log_N, float(np.log(self.low)), float(np.log(self.high)))

    def to_json(self) -> dict[str, Any]:
        """What `normaliser_from_json` reads."""
        return {"kind": self.kind, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Rank:
    """The share of the pool's scores that lie below, between knots linearly.

    Attributes:
        knots: Scores at evenly spaced shares of the pool, rising, each value once.
        levels: The share at each knot; 0 at the first, 1 at the last, mid-rank among ties.
    """

    kind: ClassVar[Literal["rank"]] = "rank"
    knots: tuple[float, ...]
    levels: tuple[float, ...]

    @classmethod
    def fit(cls, pool_N: Array) -> "Rank":
        """Take the knots from the pool: at most a thousand and one."""
        shares_Q = np.linspace(0, 1, min(_NUM_KNOTS, pool_N.size))
        knots, which = np.unique(np.quantile(pool_N, shares_Q), return_inverse=True)
        _checked_bounds(float(knots[0]), float(knots[-1]))
        levels = np.bincount(which, weights=shares_Q) / np.bincount(which)
        levels[0], levels[-1] = 0.0, 1.0
        return cls(tuple(knots.tolist()), tuple(levels.tolist()))

    def apply(self, scores_N: Array) -> Array:
        """The rank of each score in the pool, in [0, 1]."""
        return np.asarray(np.interp(_finite(scores_N), self.knots, self.levels), dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """What `normaliser_from_json` reads."""
        return {"kind": self.kind, "knots": list(self.knots), "levels": list(self.levels)}


Normaliser = Linear | Log | Rank


def fit_normaliser(kind: Kind, pool_N: Array) -> Normaliser:
    """Fit the normaliser of Eq. 4 on the scores of the simulation pool.

    Raises:
        DataError: The pool is empty, constant, or holds NaN.
    """
    pool_N = np.asarray(pool_N, dtype=np.float64)
    if pool_N.size == 0 or not np.isfinite(pool_N).all():
        raise DataError("simulation pool: is empty, or a score is NaN or infinite: rerun simulate")
    _checked_bounds(float(pool_N.min()), float(pool_N.max()))
    match kind:
        case "minmax" | "quantile" | "winsorised":
            return Linear.fit(kind, pool_N)
        case "log":
            return Log.fit(pool_N)
        case "rank":
            return Rank.fit(pool_N)


def normaliser_from_json(value: Mapping[str, Any]) -> Normaliser:
    """The inverse of `to_json`.

    Raises:
        DataError: Kind or bounds are not those of a fitted normaliser.
    """
    try:
        kind = value["kind"]
        if kind in get_args(LinearKind):
            return Linear(kind, *_checked_bounds(float(value["low"]), float(value["high"])))
        if kind == Log.kind:
            return Log(*_checked_bounds(float(value["low"]), float(value["high"])))
        if kind == Rank.kind:
            rank = Rank(tuple(map(float, value["knots"])), tuple(map(float, value["levels"])))
            if len(rank.knots) == len(rank.levels) and (np.diff(rank.knots) > 0).all():
                return rank
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"normaliser: {dict(value)} cannot be read: rerun simulate") from error
    raise DataError(f"normaliser: {kind!r}: no such kind, or damaged: rerun simulate")


@dataclass(frozen=True)
class Discount:
    """The popularity discount: p(u, i) * (overall mean / mean of i) ** power.

    With power 0 it is the score itself, with power 1 the lift of this user over everybody, of
    which no constant answer can collect more than any other. No affine map and no rank does
    that, because each keeps every user's order of items.

    Attributes:
        power: lambda, in [0, 1].
        item_means: Mean score of an item over the pool's users; above 0.
        overall: Mean of these means. An item that is not among them is taken to be average, so
            it gains nothing from being rare.
    """

    power: float
    item_means: Mapping[str, float]
    overall: float

    @classmethod
    def fit(cls, power: float, item_ids: Sequence[str], means_I: Array) -> "Discount":
        """Freeze the means; one below a thousandth of the overall mean is lifted up to that.

        Raises:
            DataError: There is no item, or no mean is above 0.
        """
        means_I = np.asarray(means_I, dtype=np.float64)
        overall = float(means_I.mean()) if means_I.size else 0.0
        if not (np.isfinite(overall) and overall > 0):
            raise DataError("popularity discount: no item has a mean score above 0")
        bounded = means_I.clip(min=overall * _LEAST_MEAN).tolist()
        return cls(power, dict(zip(item_ids, bounded, strict=True)), overall)

    def apply(self, scores_N: Array, item_ids: Sequence[str]) -> Array:
        """The discounted score of each pair."""
        means_N = np.array([self.item_means.get(item, self.overall) for item in item_ids])
        return np.asarray(scores_N * (self.overall / means_N) ** self.power, dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """What `discount_from_json` reads."""
        means = dict(self.item_means)
        return {"power": self.power, "item_means": means, "overall": self.overall}


def discount_from_json(value: Mapping[str, Any]) -> Discount:
    """The inverse of `Discount.to_json`.

    Raises:
        DataError: It is damaged.
    """
    try:
        means = {str(item): float(mean) for item, mean in value["item_means"].items()}
        return Discount(float(value["power"]), means, float(value["overall"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError("popularity discount: cannot be read: rerun simulate") from error


def _finite(scores_N: Array) -> Array:
    scores_N = np.asarray(scores_N, dtype=np.float64)
    if not np.isfinite(scores_N).all():
        raise DivergenceError("preference reward: a score is NaN or infinite")
    return scores_N


def _rescaled(scores_N: Array, low: float, high: float) -> Array:
    with np.errstate(over="ignore"):  # a pool narrower than floats: infinity is cut to 1
        return np.asarray(((scores_N - low) / (high - low)).clip(0.0, 1.0), dtype=np.float64)


def _checked_bounds(low: float, high: float) -> tuple[float, float]:
    if not (np.isfinite(low) and np.isfinite(high) and high > low):
        raise DataError(
            f"normaliser: bounds [{low}, {high}] span nothing: the ranking model gives (nearly) "
            "every pair of the pool the same score; train it longer or enlarge the pool"
        )
    return float(low), float(high)
