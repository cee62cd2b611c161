"""The frozen stack: what a few columns add to a ranking model that no longer learns.

The ranking model is trained once; its logits stay as they are. On visits that it did not learn
from, a logistic regression of [logit, columns] is fitted, and judged on the test window. Whatever
it gains, the columns know and the ranking model's own inputs do not. With and without the
columns the ranking model is the same, so that the chance of its training cancels out.

Shape suffixes: N rows, F columns, U users, R draws, B refits.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from taiji.arrays import Array, Flags, Ints, Vectors
from taiji.evaluation.influence import (
    Influence,
    auc_influence,
    gauc_influence,
    mean_influence,
)

TASKS = ("click", "ctcvr")
REFITS = 3
"""Draws of held-out users on which a stack is fitted again, to see how sure its weights are."""

_PULL = 1.0
"""Precision of the prior: weights near 0, slope near 1. A handful of clicks overturns nothing."""
_STEPS = 25
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Rows:
    """Exposures with what the frozen ranking model says of them.

    Attributes:
        user_N: A number for each user, from 0.
        labels: By task: clicked; clicked and converted.
        logits: By task: of the ranking model.
        groups: Rows that belong to a group, by its name.
    """

    user_N: Ints
    labels: Mapping[str, Array]
    logits: Mapping[str, Array]
    groups: Mapping[str, Flags]

    @cached_property
    def num_users(self) -> int:
        """U."""
        return int(self.user_N.max(initial=-1)) + 1

    @classmethod
    def of(
        cls,
        users: NDArray[np.object_],
        happened: tuple[Array, Array],
        predicted: tuple[Array, Array],
        groups: Mapping[str, Flags],
    ) -> "Rows":
        """Rows from what happened (click, click and conversion) and its predicted chances."""
        _, user_N = np.unique(users, return_inverse=True)
        labels = {
            task: label.astype(np.float64) for task, label in zip(TASKS, happened, strict=True)
        }
        logits = {task: _logit(p_N) for task, p_N in zip(TASKS, predicted, strict=True)}
        return cls(user_N.astype(np.int64), labels, logits, groups)


@dataclass(frozen=True)
class Stack:
    """sigmoid(shift + slope * logit + columns @ weights)."""

    shift: float
    slope: float
    weights_F: Array

    def scores(self, logit_N: Array, columns_NF: Vectors) -> Array:
        """Log-odds."""
        return np.asarray(
            self.shift + self.slope * logit_N + columns_NF @ self.weights_F, dtype=np.float64
        )

    @classmethod
    def fit(
        cls, logit_N: Array, columns_NF: Vectors, label_N: Array, times_N: Array | None = None
    ) -> "Stack":
        """Newton's method on the penalised log-likelihood.

        Args:
            logit_N: Of the frozen model.
            columns_NF: Beside it.
            label_N: 0 or 1.
            times_N: How often each row counts; once, if missing.
        """
        x_NG = np.column_stack([np.ones(logit_N.size), logit_N, columns_NF]).astype(np.float64)
        times = np.ones(logit_N.size) if times_N is None else times_N
        prior = np.zeros(x_NG.shape[1])
        prior[1] = 1.0
        pull = np.full(prior.size, _PULL)
        pull[0] = 1e-6
        at = prior.copy()
        for _ in range(_STEPS):
            p_N = 1 / (1 + np.exp(-(x_NG @ at)))
            gradient = x_NG.T @ (times * (p_N - label_N)) + pull * (at - prior)
            curvature = (x_NG * (times * p_N * (1 - p_N))[:, None]).T @ x_NG + np.diag(pull)
            step = np.linalg.solve(curvature, gradient)
            at = at - np.clip(step, -2.0, 2.0)
            if np.abs(step).max() < _TOLERANCE:
                break
        return cls(float(at[0]), float(at[1]), at[2:])


@dataclass(frozen=True)
class Gain:
    """What columns add in one task, by group and measure, for one seed.

    Attributes:
        weights_F: Of the columns.
        found: Difference to the frozen model: measure -> with its users' influence.
        refits: The same measures after refits on draws of held-out users.
    """

    weights_F: Array
    found: Mapping[str, Influence]
    refits: Mapping[str, list[float]]


class Judge:
    """Fits stacks on held-out rows and judges them on test rows; the base is judged once.

    Args:
        held: Visits that the ranking model did not learn from.
        test: The test window.
        seed: Of the refits' draws.
    """

    def __init__(self, held: Rows, test: Rows, seed: int) -> None:
        self._held, self._test = held, test
        random = np.random.default_rng((seed, 3))
        size = max(held.num_users, 1)
        self._times = [
            np.bincount(random.integers(size, size=size), minlength=size)[held.user_N].astype(float)
            for _ in range(REFITS)
        ]
        self._base = {task: self._measures(task, test.logits[task]) for task in TASKS}

    def with_group(self, name: str, rows_N: Flags) -> "Judge":
        """A judge of the same stacks that looks at one more group of test rows."""
        further = copy(self)
        further._test = replace(self._test, groups={name: rows_N})
        own = {task: further._measures(task, self._test.logits[task]) for task in TASKS}
        further._base = {task: self._base[task] | own[task] for task in TASKS}
        further._test = replace(self._test, groups={**self._test.groups, name: rows_N})
        return further

    @property
    def num_users(self) -> int:
        """Users of the test window, by whom intervals are drawn."""
        return self._test.num_users

    def base(self) -> dict[str, dict[str, float]]:
        """Group -> measure -> value of the frozen model alone."""
        groups = self._test.groups
        return {
            group: {
                name: of.value for task in TASKS for name, of in self._base[task][group].items()
            }
            for group in groups
        }

    def base_influence(self, task: str, group: str, measure: str) -> Influence:
        """One measure of the frozen model, with its users' influence."""
        return self._base[task][group][measure]

    def gain(self, held_NF: Vectors, test_NF: Vectors) -> dict[str, dict[str, Gain]]:
        """Task -> group -> what the columns add."""
        return {task: self._gain(task, held_NF, test_NF) for task in TASKS}

    def known_gain(self, task: str, column_N: Vectors, weight: float) -> dict[str, Influence]:
        """What a column adds over all exposures whose weight is known and need not be fitted.

        Args:
            task: `click` or `ctcvr`.
            column_N: Of the test rows.
            weight: In log-odds.
        """
        found = self._measures(task, self._test.logits[task] + weight * column_N)
        return {name: one - self._base[task]["all"][name] for name, one in found["all"].items()}

    def log_likelihood(
        self, task: str, held_NF: Vectors, test_NF: Vectors, group: str = "all"
    ) -> Influence:
        """Nats per thousand impressions of a group that columns add to the recalibrated logit."""
        with_, without = (
            self._losses(task, held, test)
            for held, test in ((held_NF, test_NF), (held_NF[:, :0], test_NF[:, :0]))
        )
        rows = self._test.groups[group]
        gained_N = 1000 * (without - with_)[rows]
        return mean_influence(gained_N, self._test.user_N[rows], self._test.num_users)

    def _losses(self, task: str, held_NF: Vectors, test_NF: Vectors) -> Array:
        held, test = self._held, self._test
        stack = Stack.fit(held.logits[task], held_NF, held.labels[task])
        score_N = stack.scores(test.logits[task], test_NF)
        return np.asarray(np.logaddexp(0.0, score_N) - test.labels[task] * score_N)

    def _gain(self, task: str, held_NF: Vectors, test_NF: Vectors) -> dict[str, Gain]:
        held, test = self._held, self._test
        logit_N, label_N = held.logits[task], held.labels[task]
        stack = Stack.fit(logit_N, held_NF, label_N)
        others = [Stack.fit(logit_N, held_NF, label_N, times) for times in self._times]
        score_N = stack.scores(test.logits[task], test_NF)
        other_BN = [other.scores(test.logits[task], test_NF) for other in others]
        found = self._measures(task, score_N)
        again = [self._measures(task, other_N) for other_N in other_BN]
        return {
            group: Gain(
                stack.weights_F,
                {name: found[group][name] - of for name, of in base.items()},
                {
                    name: [one[group][name].value - of.value for one in again]
                    for name, of in base.items()
                },
            )
            for group, base in self._base[task].items()
        }

    def _measures(self, task: str, score_N: Array) -> dict[str, dict[str, Influence]]:
        """Group -> measure; rows are sorted once for all."""
        test = self._test
        order = np.argsort(score_N, kind="stable")
        found = {}
        for group, rows in test.groups.items():
            place = np.cumsum(rows) - 1
            own = place[order[rows[order]]]
            label, score, user = test.labels[task][rows], score_N[rows], test.user_N[rows]
            found[group] = {
                f"{task}_{name}": of(label, score, user, test.num_users, own)
                for name, of in (("auc", auc_influence), ("gauc", gauc_influence))
            }
        return found


def _logit(p_N: Array) -> Array:
    """Log-odds, finite also where a probability is rounded to 0 or 1."""
    epsilon = float(np.finfo(np.float64).eps)
    p_N = np.clip(p_N.astype(np.float64), epsilon, 1 - epsilon)
    return np.asarray(np.log(p_N) - np.log1p(-p_N), dtype=np.float64)
