"""Figures of the ranking comparison: each arm's, and its difference to the base.

Every figure is the mean over the seeds of an arm, with an interval over users; differences are
paired, on the same draws of users.

Shape suffixes: N exposures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taiji.evaluation.metrics import (
    Array,
    Interval,
    Statistic,
    auc_statistic,
    bootstrap_draws,
    ece,
    gauc_statistic,
    log_losses,
    mean_statistic,
    percentile_interval,
)

Sampled = tuple[float, Array]
"""A measure, and the same on each draw of users."""


@dataclass(frozen=True)
class Outcome:
    """What one seed of one arm predicted for the exposures."""

    ctr: Array
    ctcvr: Array


@dataclass(frozen=True)
class Exposed:
    """Who saw the exposures, and what came of them."""

    users: NDArray[np.object_]
    click: Array
    both: Array  # clicked and converted


def arm_figures(
    outcomes: Mapping[str, Sequence[Outcome]], exposed: Exposed, *, resamples: int, seed: int
) -> dict[str, Any]:
    """`arms` and, where there is a base arm, `differences` to it, by arm and measure."""
    sampled = {
        arm: _sample(_statistics(seeds, exposed), exposed, resamples, seed)
        for arm, seeds in outcomes.items()
    }
    arms = {
        arm: {name: _figure(percentile_interval(*one)) for name, one in measures.items()}
        | _calibration(outcomes[arm], exposed)
        for arm, measures in sampled.items()
    }
    base = sampled.get("base")
    differences = {
        arm: {name: _figure(_difference(one, base[name])) for name, one in measures.items()}
        for arm, measures in sampled.items()
        if base is not None and arm != "base"
    }
    return {"arms": arms, "differences": differences}


def _sample(
    statistics: Mapping[str, Statistic], exposed: Exposed, resamples: int, seed: int
) -> dict[str, Sampled]:
    """Each measure on all rows, and on the same draws of users."""
    _, user_N = np.unique(exposed.users, return_inverse=True)
    everyone_N = np.ones(user_N.size)
    return {
        name: (
            statistic(everyone_N),
            bootstrap_draws(statistic, user_N, resamples=resamples, seed=seed),
        )
        for name, statistic in statistics.items()
    }


def _difference(treatment: Sampled, control: Sampled) -> Interval:
    return percentile_interval(treatment[0] - control[0], treatment[1] - control[1])


def _statistics(seeds: Sequence[Outcome], exposed: Exposed) -> dict[str, Statistic]:
    tasks = {
        "click": (exposed.click, [outcome.ctr for outcome in seeds]),
        "ctcvr": (exposed.both, [outcome.ctcvr for outcome in seeds]),
    }
    statistics = {}
    for task, (labels, scores) in tasks.items():
        statistics[f"{task}_auc"] = _mean([auc_statistic(labels, one) for one in scores])
        statistics[f"{task}_gauc"] = _mean(
            [gauc_statistic(labels, one, exposed.users) for one in scores]
        )
        statistics[f"{task}_log_loss"] = _mean(
            [mean_statistic(log_losses(labels, one)) for one in scores]
        )
    return statistics


def _mean(statistics: Sequence[Statistic]) -> Statistic:
    def mean(weights_N: Array) -> float:
        return float(np.mean([statistic(weights_N) for statistic in statistics]))

    return mean


def _calibration(seeds: Sequence[Outcome], exposed: Exposed) -> dict[str, Any]:
    """ECE has no interval: its bins move with every resample."""
    values = {
        "click_ece": [ece(exposed.click, outcome.ctr) for outcome in seeds],
        "ctcvr_ece": [ece(exposed.both, outcome.ctcvr) for outcome in seeds],
    }
    return {
        name: {"value": float(np.mean(value)), "low": None, "high": None}
        for name, value in values.items()
    }


def _figure(interval: Interval) -> dict[str, float | None]:
    """JSON has no NaN: what is not defined is null."""
    numbers = {"value": interval.value, "low": interval.low, "high": interval.high}
    return {name: float(x) if np.isfinite(x) else None for name, x in numbers.items()}
