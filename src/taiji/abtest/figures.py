"""The figures of a simulated A/B test, as JSON holds them.

Shape suffixes: U users, M measures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

import numpy as np

from taiji.abtest.experiment import AA, MEASURES
from taiji.abtest.statistics import (
    Estimator,
    Lift,
    bootstrap_lift,
    bucket_lift,
    paired_lift,
    power,
    sample_ratio,
)
from taiji.abtest.trial import Outcomes, Split
from taiji.arrays import Array, Flags, Ints
from taiji.errors import DataError

MIN_BUCKET_USERS = 20
RESAMPLES = 1000

CONTROLS = {
    "reseeded": ("base", "reseeded"),
    "permuted": ("permuted", "permuted_other"),
    "overrated_steered": ("steered", "steered_overrated"),
    "overrated_unsteered": ("unsteered", "unsteered_overrated"),
    "truth": ("base", "truth"),
}
"""Control and treatment of each row that is no arm; what each must show is in `tables`."""


def check_buckets(split: Split, requests_U: Ints) -> None:
    """Refuse buckets in which no interval could mean anything.

    Raises:
        DataError: A bucket has too few users with requests.
    """
    for arm in split.arms:
        users = int((split.members(arm) & (requests_U > 0)).sum())
        if users < MIN_BUCKET_USERS:
            raise DataError(
                f"abtest: {users} users in bucket {arm!r}, at least {MIN_BUCKET_USERS} are needed: "
                "raise abtest.bucket_share, or take more users into the log"
            )


def trial_figures(
    outcomes: Outcomes, split: Split, requests_U: Ints, groups: Mapping[str, Flags], *, seed: int
) -> dict[str, Any]:
    """Counterfactual, buckets, controls, power: by group of users, row and measure."""
    triggered = {name: mask & (requests_U > 0) for name, mask in groups.items()}
    arms = [arm for arm in outcomes.first if arm != "base"]
    return {
        "counterfactual": {
            name: _counterfactual(outcomes.paired, arms, users) for name, users in triggered.items()
        },
        "controls": {
            group: {
                name: _by_measure(outcomes.paired, *pair, users) for name, pair in CONTROLS.items()
            }
            for group, users in triggered.items()
        },
        "buckets": {
            name: _buckets(outcomes, split, requests_U, users) for name, users in triggered.items()
        },
        "estimators": _estimators(outcomes, split, requests_U, triggered["all"], seed),
        "sample_ratio": _sample_ratios(split, triggered["all"]),
        "users": {name: int(users.sum()) for name, users in triggered.items()},
        "bucket_users": {
            arm: int((split.members(arm) & triggered["all"]).sum()) for arm in split.arms
        },
    }


def _counterfactual(
    paired: Mapping[str, Array], arms: Sequence[str], users: Flags
) -> dict[str, Any]:
    rows = {arm: _by_measure(paired, "base", arm, users) for arm in arms}
    if {"intra", "cross", "both"} <= set(arms):
        beyond = paired["both"] - paired["intra"] - paired["cross"] + paired["base"]
        rows["interaction"] = {
            measure: figure(paired_lift(paired["base"][users, m], beyond[users, m]))
            for m, measure in enumerate(MEASURES)
        }
    return rows


def _by_measure(
    paired: Mapping[str, Array], control: str, treatment: str, users: Flags
) -> dict[str, Any]:
    before, after = paired[control][users], paired[treatment][users]
    return {
        measure: figure(paired_lift(before[:, m], (after - before)[:, m]))
        for m, measure in enumerate(MEASURES)
    }


def _buckets(
    outcomes: Outcomes, split: Split, requests_U: Ints, users: Flags
) -> dict[str, dict[str, Any]]:
    """CUPED lift of each bucket over the base's, and whether it covers the counterfactual."""
    rows: dict[str, dict[str, Any]] = {}
    paired = {arm: _by_measure(outcomes.paired, "base", arm, users) for arm in outcomes.first}
    for arm in split.arms[1:]:
        rows[arm] = {}
        for m, measure in enumerate(MEASURES):
            control, treatment = (
                _sample(outcomes, one, m, requests_U, users & split.members(one))
                for one in ("base", arm)
            )
            lift = bucket_lift(control, treatment, "cuped")
            known = paired["base" if arm == AA else arm][measure]["value"]
            rows[arm][measure] = figure(lift) | {
                "covers_counterfactual": known is not None and lift.holds(known)
            }
    return rows


def _estimators(
    outcomes: Outcomes, split: Split, requests_U: Ints, users: Flags, seed: int
) -> dict[str, Any]:
    """What each way of computing makes of the last arm, and what buckets of this size can see."""
    arm = split.arms[-1]
    num_users = int((split.members("base") & users).sum())
    rows: dict[str, dict[str, Any]] = {}
    for m, measure in enumerate(MEASURES):
        control, treatment = (
            _sample(outcomes, one, m, requests_U, users & split.members(one))
            for one in ("base", arm)
        )
        everyone = np.stack(
            [outcomes.first["base"][:, m], outcomes.before_UM[:, m], requests_U], axis=1
        )[users]
        rows[measure] = {
            estimator: figure(bucket_lift(control, treatment, estimator))
            | _finite(asdict(power(everyone, estimator, num_users)))
            for estimator in get_args(Estimator)
        }
        bootstrap = bootstrap_lift(control, treatment, resamples=RESAMPLES, seed=seed)
        rows[measure]["bootstrap"] = figure(bootstrap)
    return {"arm": arm, "measures": rows}


def _sample(outcomes: Outcomes, arm: str, m: int, requests_U: Ints, users: Flags) -> Array:
    columns = (outcomes.bucketed[arm][:, m], outcomes.before_UM[:, m], requests_U)
    return np.stack(columns, axis=1, dtype=np.float64)[users]


def _sample_ratios(split: Split, users: Flags) -> dict[str, float]:
    sizes = {arm: int((split.members(arm) & users).sum()) for arm in split.arms}
    return {arm: sample_ratio(sizes["base"], size) for arm, size in sizes.items() if arm != "base"}


def figure(lift: Lift) -> dict[str, float | None]:
    """JSON has no NaN: what is not defined is null."""
    return _finite(asdict(lift))


def _finite(numbers: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(x) if np.isfinite(x) else None for name, x in numbers.items()}
