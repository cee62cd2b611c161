"""What texts that were written know beyond a ranking model's own inputs.

The same frozen stack as the ceiling's, with the names of real texts in the place of the oracle's.
How often a text is right is no measure of its worth: the log's own names are right far more often
than any model's, and worth nothing to a ranking model that sees the log.

Shape suffixes: N exposures, F columns, R draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from taiji.arrays import Array, Flags, Vectors
from taiji.evaluation.influence import extra_users
from taiji.lift.dose_response import Seed
from taiji.lift.figures import figure, gain_figures
from taiji.lift.reading import MEASURE, Point, curves, equivalent_accuracy
from taiji.lift.stack import TASKS, Gain

VIEWS = ("names", "meaning", "both", "likelihood")
"""Vectors of a stack: named categories, cosine of the texts, both of them, or how likely the model
finds the item's category."""

SERVED = "served"
"""The group of exposures whose user had a text by then. Texts of a few users are judged by it: over
all exposures even perfect ones would not show."""

_UNKNOWN: Mapping[str, float | None] = {"value": None, "low": None, "high": None}


@dataclass(frozen=True)
class Told:
    """What one set of texts says of every exposure of both windows.

    Attributes:
        train_NF: Vectors of the window that ranking models learn in.
        test_NF: Of the test window.
        views: Which columns a view looks at; views without any are left out.
        names: How many categories a text names in the mean.
        served_N: Exposures of the test window whose user had a text by then.
    """

    train_NF: Vectors
    test_NF: Vectors
    views: Mapping[str, Sequence[int]]
    names: float
    served_N: Flags


def surplus_figures(
    told: Told, seeds: Sequence[Seed], points: Sequence[Point], *, resamples: int, seed: int
) -> dict[str, Any]:
    """For each view: weights, gains by group and measure, log-likelihood, equivalent accuracy.

    The last two where a text serves. Beside them how many categories a text names, which share of
    the exposures a text serves, and of how many the category is named.
    """
    extra_RU = extra_users(seeds[0].judge.num_users, resamples, seed)
    seeds = [_with_served(one, told) for one in seeds]
    found = {
        view: _view(told, list(columns), seeds, extra_RU, seed)
        for view, columns in told.views.items()
        if columns
    }
    curve = _curve(points, told.names)
    for view in found.values():
        served = view["groups"].get(SERVED, {})
        view["equivalent_accuracy"] = _equivalent(curve, served.get(MEASURE, _UNKNOWN))
    return {
        "views": found,
        "names_a_text": told.names,
        "curve_names": _names_of(curve),
        "served": float(told.served_N.mean()),
        "reach": _reach(told),
    }


def _with_served(one: Seed, told: Told) -> Seed:
    served_N = told.served_N[one.test.rows]
    return replace(one, judge=one.judge.with_group(SERVED, served_N)) if served_N.any() else one


def _reach(told: Told) -> float:
    """The share of test exposures whose category, in full, is named."""
    deepest = [*told.views.get("names", ())][:1]
    return float(told.test_NF[:, deepest].mean()) if deepest else 0.0


def _view(
    told: Told, columns: list[int], seeds: Sequence[Seed], extra_RU: Array, seed: int
) -> dict[str, Any]:
    gains, likelihoods = list[dict[str, dict[str, Gain]]](), []
    group = SERVED if told.served_N.any() else "all"
    for one in seeds:
        held_NF = told.train_NF[one.held.rows][:, columns]
        test_NF = told.test_NF[one.test.rows][:, columns]
        gains.append(one.judge.gain(held_NF, test_NF))
        likelihoods.append(
            {task: one.judge.log_likelihood(task, held_NF, test_NF, group) for task in TASKS}
        )
    return {
        "weights": {
            task: np.mean([gain[task]["all"].weights_F for gain in gains], axis=0).tolist()
            for task in TASKS
        },
        "groups": gain_figures(gains, extra_RU, seed),
        "nats_a_thousand": {
            task: figure([one[task] for one in likelihoods], [], extra_RU, seed).to_json()
            for task in TASKS
        },
    }


def _curve(points: Sequence[Point], names: float) -> Sequence[Point]:
    """The oracle's curve of texts a window, among all categories, of about as many names."""
    found = {key: curve for key, curve in curves(points).items() if key[1] == "all"}
    windows = {key: curve for key, curve in found.items() if key[0] == "window"} or found
    if not windows:
        return ()
    return windows[min(windows, key=lambda key: abs(key[2] - names))]


def _names_of(curve: Sequence[Point]) -> int | None:
    return int(curve[0]["names"]) if curve else None


def _equivalent(
    curve: Sequence[Point], gain: Mapping[str, float | None]
) -> dict[str, float | None]:
    return {name: equivalent_accuracy(curve, gain[name]) if curve else None for name in gain}
