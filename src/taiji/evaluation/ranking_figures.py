"""Figures of the ranking comparison: of each arm, and of each contrast between arms.

An arm's figure is the mean over its seeds. Intervals come from two sources of chance. Users:
whole users are drawn with replacement, the same draws for every arm, so that contrasts are
paired. Seeds, where there are several: to every draw comes t-distributed noise of the size that
seeds of one arm differ by. Without it, a model trained twice would differ significantly from
itself.

Shape suffixes: N exposures, S seeds, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taiji.arrays import Array
from taiji.evaluation.metrics import (
    Statistic,
    auc_statistic,
    ece,
    gauc_statistic,
    log_losses,
    mean_statistic,
    percentile_interval,
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
    both: Array | None  # clicked and converted; None where the click is the goal


@dataclass(frozen=True)
class _Sampled:
    """A measure of an arm: each seed's value, and the mean over seeds on each draw of users."""

    values_S: Array
    draws_R: Array


Measures = Mapping[str, _Sampled]


def comparison_figures(
    outcomes: Mapping[str, Sequence[Outcome]],
    contrasts: Mapping[str, Mapping[str, float]],
    exposed: Exposed,
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """`arms` and `contrasts`, by name and measure.

    Args:
        outcomes: The seeds of each arm, as many for each.
        contrasts: Weights of the arms that each contrast adds up.
        exposed: What really happened.
        resamples: Draws of users.
        seed: Of the draws.

    Returns:
        Each figure has `value`, `low`, `high` (95 %), and `spread`, the deviation between
        seeds; null where it is not defined.
    """
    sampled = _sample(outcomes, exposed, resamples, seed)
    noise = {name: _seed_noise(sampled, name) for name in _names(sampled)}

    def figures(weights: Mapping[str, float]) -> dict[str, Any]:
        return {
            name: _figure({arm: sampled[arm][name] for arm in weights}, weights, noise[name], seed)
            for name in noise
        }

    arms = {arm: figures({arm: 1.0}) | _calibration(outcomes[arm], exposed) for arm in outcomes}
    return {
        "arms": arms,
        "contrasts": {name: figures(weights) for name, weights in contrasts.items()},
    }


def _sample(
    outcomes: Mapping[str, Sequence[Outcome]], exposed: Exposed, resamples: int, seed: int
) -> dict[str, Measures]:
    """Every measure of every arm and seed, on all rows and on the same draws of users."""
    statistics = {
        (arm, name, n): statistic
        for arm, seeds in outcomes.items()
        for n, outcome in enumerate(seeds)
        for name, statistic in _statistics(outcome, exposed).items()
    }
    names, user_N = np.unique(exposed.users, return_inverse=True)
    everyone_N = np.ones(user_N.size)
    values = {key: statistic(everyone_N) for key, statistic in statistics.items()}
    draws_R = {key: np.empty(resamples) for key in statistics}
    random = np.random.default_rng(seed)
    for draw in range(resamples):
        count_U = np.bincount(random.integers(names.size, size=names.size), minlength=names.size)
        weights_N = count_U.astype(np.float64)[user_N]
        for key, statistic in statistics.items():
            draws_R[key][draw] = statistic(weights_N)
    sampled: dict[str, dict[str, _Sampled]] = {arm: {} for arm in outcomes}
    for arm, name, _ in statistics:
        keys = [(arm, name, n) for n in range(len(outcomes[arm]))]
        sampled[arm][name] = _Sampled(
            np.array([values[key] for key in keys]),
            np.mean([draws_R[key] for key in keys], axis=0),
        )
    return dict(sampled)


def _statistics(outcome: Outcome, exposed: Exposed) -> dict[str, Statistic]:
    statistics: dict[str, Statistic] = {}
    for task, labels, scores in _tasks(outcome, exposed):
        statistics[f"{task}_auc"] = auc_statistic(labels, scores)
        statistics[f"{task}_gauc"] = gauc_statistic(labels, scores, exposed.users)
        statistics[f"{task}_log_loss"] = mean_statistic(log_losses(labels, scores))
    return statistics


def _tasks(outcome: Outcome, exposed: Exposed) -> list[tuple[str, Array, Array]]:
    """Name, truth and prediction of each task."""
    tasks = [("click", exposed.click, outcome.ctr)]
    if exposed.both is not None:
        tasks.append(("ctcvr", exposed.both, outcome.ctcvr))
    return tasks


def _names(sampled: Mapping[str, Measures]) -> list[str]:
    return list(next(iter(sampled.values()))) if sampled else []


def _seed_noise(sampled: Mapping[str, Measures], name: str) -> tuple[float, int]:
    """The deviation between seeds of one arm, pooled over arms, and its degrees of freedom.

    Pooled, because five values say little of a deviation and the arms differ little in it.
    """
    values_S = [measures[name].values_S for measures in sampled.values()]
    freedom = sum(values.size - 1 for values in values_S)
    if freedom == 0:
        return 0.0, 0
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in values_S)
    return float(np.sqrt(squares / freedom)), freedom


def _figure(
    parts: Mapping[str, _Sampled],
    weights: Mapping[str, float],
    noise: tuple[float, int],
    seed: int,
) -> dict[str, float | None]:
    """A weighted sum of arms. The seeds' noise is taken as independent between arms."""
    values_S = np.sum([weights[arm] * part.values_S for arm, part in parts.items()], axis=0)
    draws_R = np.sum([weights[arm] * part.draws_R for arm, part in parts.items()], axis=0)
    deviation, freedom = noise
    if freedom:
        width = deviation * np.sqrt(sum(w * w for w in weights.values()) / values_S.size)
        chance = np.random.default_rng((seed, 1)).standard_t(freedom, size=draws_R.size)
        draws_R = draws_R + width * chance
    interval = percentile_interval(float(values_S.mean()), draws_R)
    spread = float(values_S.std(ddof=1)) if values_S.size > 1 else np.nan
    return _defined(interval.value, interval.low, interval.high, spread)


def _calibration(seeds: Sequence[Outcome], exposed: Exposed) -> dict[str, Any]:
    """ECE has no interval: its bins move with every resample."""
    values: dict[str, list[float]] = {}
    for outcome in seeds:
        for task, labels, scores in _tasks(outcome, exposed):
            values.setdefault(f"{task}_ece", []).append(ece(labels, scores))
    return {
        name: _defined(float(np.mean(of)), np.nan, np.nan, np.nan) for name, of in values.items()
    }


def _defined(value: float, low: float, high: float, spread: float) -> dict[str, float | None]:
    """JSON has no NaN: what is not defined is null."""
    numbers = {"value": value, "low": low, "high": high, "spread": spread}
    return {name: float(x) if np.isfinite(x) else None for name, x in numbers.items()}
