"""What an experiment may conclude: lifts with intervals, power, and whether the split was fair.

Buckets are compared by tea-tasting: CUPED (Deng et al. 2013), the delta method for ratios and for
relative differences, the bootstrap, and the test for sample-ratio mismatch. The counterfactual,
which no live test has and so no library knows, is paired by user and done here.

All intervals hold 95 %; the unit is the user.

Shape suffixes: U users, 3 columns: the measure, the same in the warm-up weeks, requests.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from taiji.arrays import Array
from taiji.errors import EngineError

Estimator = Literal["mean", "cuped", "per_request"]

POWER = 0.8
TARGET_LIFT = 0.01
_Z = 1.959963984540054
_COLUMNS = ("value", "before", "requests")


@dataclass(frozen=True)
class Lift:
    """A relative difference, as a share of the control; NaN where the control has nothing."""

    value: float
    low: float
    high: float
    pvalue: float = float("nan")

    def holds(self, value: float) -> bool:
        """Whether the interval covers a value."""
        return bool(self.low <= value <= self.high)


@dataclass(frozen=True)
class Power:
    """What two buckets of a size can see.

    Attributes:
        smallest_lift: Found with a probability of `POWER` by a two-sided test at 5 %.
        users_per_arm: Needed to find `TARGET_LIFT` as often.
    """

    smallest_lift: float
    users_per_arm: float


UNDEFINED = Lift(np.nan, np.nan, np.nan)


def bucket_lift(control_U3: Array, treatment_U3: Array, estimator: Estimator) -> Lift:
    """Lift of one bucket over another, by tea-tasting.

    Args:
        control_U3: One row for each user of the bucket.
        treatment_U3: The same of the other bucket.
        estimator: `mean` by user, `cuped` (the same, less what the warm-up foretold), or
            `per_request` (a ratio of two means, with the delta method).
    """
    if not (_is_defined(control_U3) and _is_defined(treatment_U3)):
        return UNDEFINED
    with np.errstate(divide="ignore", invalid="ignore"):
        found = _metric(estimator).analyze_aggregates(
            _aggregates(control_U3), _aggregates(treatment_U3)
        )
    value = float(found.rel_effect_size)
    low, high = float(found.rel_effect_size_ci_lower), float(found.rel_effect_size_ci_upper)
    if np.isfinite(value) and np.isnan(low):  # nobody differs: nothing is left to chance
        low = high = value
    return Lift(value, low, high, float(found.pvalue))


def bootstrap_lift(control_U3: Array, treatment_U3: Array, *, resamples: int, seed: int) -> Lift:
    """Lift of the mean by user with a percentile bootstrap: no normality, no delta method."""
    if not (_is_defined(control_U3) and _is_defined(treatment_U3)):
        return UNDEFINED
    metric = _library().Bootstrap(
        "value", np.mean, n_resamples=resamples, method="percentile", batch=100, rng=seed
    )
    tables = (pa.table({"value": sample[:, 0]}) for sample in (control_U3, treatment_U3))
    with np.errstate(invalid="ignore"):  # a resample whose control has nothing has no lift
        found = metric.analyze_granular(*tables)
    return Lift(
        float(found.rel_effect_size),
        float(found.rel_effect_size_ci_lower),
        float(found.rel_effect_size_ci_upper),
    )


def power(sample_U3: Array, estimator: Estimator, users_per_arm: int) -> Power:
    """What the spread of all users under the control allows two buckets to see.

    NaN where the control has nothing, or where nobody differs once the estimator has taken out
    what it knows: without spread there is no size that would be too small.
    """
    if not _is_defined(sample_U3) or not bucket_lift(sample_U3, sample_U3, estimator).pvalue > 0:
        return Power(np.nan, np.nan)
    aggregates = _aggregates(sample_U3)
    # By the normal distribution: the non-central t is not defined for millions of users.
    smallest = _metric(estimator, n_obs=2 * users_per_arm, use_t=False)
    enough = _metric(estimator, rel_effect_size=TARGET_LIFT, use_t=False)
    lift = smallest.solve_power_from_aggregates(aggregates, "rel_effect_size")[0]
    users = enough.solve_power_from_aggregates(aggregates, "n_obs")[0]
    return Power(float(lift.rel_effect_size), float(users.n_obs) / 2)


def sample_ratio(control: int, treatment: int) -> float:
    """p-value of the hypothesis that two buckets were filled alike; a small one means a fault.

    NaN where both are empty.
    """
    if not control + treatment:
        return float("nan")
    library = _library()
    counts = {0: library.aggr.Aggregates(control), 1: library.aggr.Aggregates(treatment)}
    return float(library.SampleRatio().analyze(counts, 0, 1).pvalue)


def paired_lift(control_U: Array, contrast_U: Array) -> Lift:
    """A contrast of arms as a share of the control, the same users under all of them.

    Delta method for a ratio of two means over one sample of users: with L = mean(c) / mean(b) the
    standard error is that of the mean of (c - L b) / mean(b). For a lift the contrast is treatment
    minus control; for the interaction of a 2 x 2 design, both - intra - cross + base.
    """
    if control_U.size < 2 or not control_U.sum() > 0:
        return UNDEFINED
    mean = float(control_U.mean())
    lift = float(contrast_U.mean()) / mean
    error = np.std((contrast_U - lift * control_U) / mean, ddof=1) / np.sqrt(control_U.size)
    return Lift(lift, lift - _Z * float(error), lift + _Z * float(error))


def _is_defined(sample_U3: Array) -> bool:
    """Two users at least, and something to be better than."""
    return len(sample_U3) > 1 and bool(sample_U3[:, 0].sum() > 0)


def _aggregates(sample_U3: Array) -> Any:
    """Means, variances and covariances: all that tea-tasting asks for."""
    moments = np.cov(sample_U3, rowvar=False)
    return _library().aggr.Aggregates(
        len(sample_U3),
        dict(zip(_COLUMNS, sample_U3.mean(axis=0).tolist(), strict=True)),
        dict(zip(_COLUMNS, np.diag(moments).tolist(), strict=True)),
        {
            (_COLUMNS[i], _COLUMNS[j]): float(moments[i, j])
            for i in range(len(_COLUMNS))
            for j in range(i)
        },
    )


def _metric(estimator: Estimator, **settings: Any) -> Any:
    library = _library()
    make: Callable[..., Any] = library.RatioOfMeans
    settings |= {"confidence_level": 0.95, "alpha": 0.05, "power": POWER}
    match estimator:
        case "mean":
            return make("value", **settings)
        case "cuped":
            return make("value", None, "before", **settings)
        case "per_request":
            return make("value", "requests", **settings)


def check_library() -> None:
    """Say what to install, before any work is done.

    Raises:
        EngineError: The extra `abtest` is not installed.
    """
    _library()


def _library() -> Any:
    try:
        import tea_tasting
        import tea_tasting.aggr
    except ImportError as error:
        raise EngineError(
            "abtest: the statistics need tea-tasting: pip install 'taiji-rec[abtest]'"
        ) from error
    return tea_tasting
