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
    bootstrap_difference,
    bootstrap_interval,
    ece,
    gauc_statistic,
    log_losses,
    mean_statistic,
)


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
    statistics = {arm: _statistics(seeds, exposed) for arm, seeds in outcomes.items()}
    draws = {"resamples": resamples, "seed": seed}
    arms = {
        arm: {
            name: _figure(bootstrap_interval(statistic, exposed.users, **draws))
            for name, statistic in of_arm.items()
        }
        | _calibration(outcomes[arm], exposed)
        for arm, of_arm in statistics.items()
    }
    base = statistics.get("base")
    differences = {
        arm: {
            name: _figure(bootstrap_difference(statistic, base[name], exposed.users, **draws))
            for name, statistic in of_arm.items()
        }
        for arm, of_arm in statistics.items()
        if base is not None and arm != "base"
    }
    return {"arms": arms, "differences": differences}


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
