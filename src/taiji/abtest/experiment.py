"""The experiment: buckets of users, and the same users under every arm.

Two readings of one question. *Buckets* are the paper's protocol: users hashed into disjoint
shares, each served by one arm with its share of every budget. The *counterfactual* is what only a
simulator can give: all users under each arm in turn, with the same requests, candidates, bids and
random numbers, so that nothing but the model differs.

Shape suffixes: R requests, C candidates, A advertisers, U users, M measures.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taiji.abtest.market import Rules, Served, Steering, Traffic, World, serve
from taiji.arrays import Array, Ints

Scores = NDArray[np.float32]

AA = "aa"
"""The arm that is the base once more, for other users."""

OVERRATED = 1.5
"""Factor of the predictions in the control that shows what cost control is for."""

MEASURES = ("revenue", "advv", "expected_advv")
"""Payments; value of the conversions at tCPA; the same at true probabilities. The order of M."""

UNASSIGNED = -1
_BID_SPREAD = 0.3  # deviation of log tCPA between worlds
_BUDGET_SPREAD = 0.5  # deviation of log budgets between advertisers


@dataclass(frozen=True)
class Plan:
    """What is the same for all arms and worlds.

    Attributes:
        traffic: All requests, in the order of time.
        user_R: Number of each request's user, 0 .. num_users - 1.
        warmup: Requests of the warm-up weeks.
        measured: Those that count.
        tcpa_A: Mean value of a conversion to each advertiser.
        budget: Weekly budgets over what the truth spends without any; None for no budgets.
        cost_control: Whether alpha moves.
    """

    traffic: Traffic
    user_R: Ints
    num_users: int
    warmup: Ints
    measured: Ints
    tcpa_A: Array
    budget: float | None
    cost_control: bool

    def per_user(self, served: Served, rows: Ints) -> Array:
        """Sums of each measure over the requests of each user, (U, M)."""
        columns = (served.revenue_R, served.value_R, served.expected_R)
        sums = [
            np.bincount(self.user_R[rows], weights=column, minlength=self.num_users)
            for column in columns
        ]
        return np.stack(sums, axis=1)


@dataclass(frozen=True)
class Market:
    """One world, opened: budgets are set and the base has served the warm-up weeks.

    Attributes:
        budget_A: Weekly budgets.
        before_UM: What came of each user in the warm-up weeks: the covariate of CUPED.
    """

    plan: Plan
    world: World
    budget_A: Array
    before_UM: Array

    def serve(
        self,
        scores_RC: Scores,
        users_U: NDArray[np.bool_] | None = None,
        share: float = 1.0,
        *,
        cost_control: bool | None = None,
    ) -> tuple[Array, Served]:
        """Serve the measured weeks by one model; sums by user, and all that happened.

        The controllers learn the model on the warm-up weeks, which do not count. An arm with a
        `share` of the users has this share of the budgets, and knows as much as it would tell.
        """
        plan = self.plan
        control = plan.cost_control if cost_control is None else cost_control
        whole = Rules(self.budget_A, control)
        fresh = Steering.fresh(self.budget_A.size)
        ready = serve(plan.traffic, self.world, scores_RC, whole, fresh, plan.warmup).steering
        rows = plan.measured
        if users_U is not None:
            rows = rows[users_U[plan.user_R[rows]]]
        part = Rules(self.budget_A * share, control)
        served = serve(plan.traffic, self.world, scores_RC, part, ready.scaled(share), rows)
        return plan.per_user(served, rows), served


def open_market(plan: Plan, base_RC: Scores, seed: int) -> Market:
    """Draw a world and set its budgets, which no arm owns.

    An advertiser's budget follows from what he would spend in the warm-up, without any budgets,
    were all predictions the response model's own. Set by the spend of one arm, budgets would
    favour whoever errs as that arm does: a model of another seed would seem to lose, and the
    truth to win nothing.

    Args:
        plan: What is the same for all arms and worlds.
        base_RC: Serves the warm-up once more, for the covariate of CUPED.
        seed: Of the world.
    """
    random = np.random.default_rng([seed, 2])
    traffic, tcpa_A = plan.traffic, plan.tcpa_A
    shape, num = base_RC.shape, plan.tcpa_A.size
    world = World(
        tcpa_A * np.exp(_BID_SPREAD * random.standard_normal(num)),
        random.random(shape, dtype=np.float32) < traffic.truth_RC,
        random.random(shape, dtype=np.float32),
    )
    free = Rules(np.full(num, np.inf), plan.cost_control)
    spread_A = np.exp(_BUDGET_SPREAD * random.standard_normal(num))
    trial = serve(traffic, world, traffic.truth_RC, free, Steering.fresh(num), plan.warmup)
    budget_A = free.budget_A
    if plan.budget is not None:
        budget_A = plan.budget * spread_A * _weekly_spend(plan, trial, num)
    rules = Rules(budget_A, plan.cost_control)
    warm = serve(traffic, world, base_RC, rules, Steering.fresh(num), plan.warmup)
    return Market(plan, world, budget_A, plan.per_user(warm, plan.warmup))


def _weekly_spend(plan: Plan, served: Served, num_advertisers: int) -> Array:
    """What each advertiser spends in a week; nobody counts for less than the lower quarter."""
    shown = served.winner_R >= 0
    won = (plan.warmup[shown], served.winner_R[shown])
    who = plan.traffic.advertiser_RC[won]
    weeks = np.unique(plan.traffic.week_R[plan.warmup]).size
    spend_A = np.bincount(who, weights=served.revenue_R[shown], minlength=num_advertisers) / weeks
    positive = spend_A[spend_A > 0]
    return np.maximum(spend_A, np.quantile(positive, 0.25) if positive.size else 1.0)


def assign(user_ids: Sequence[str], num_buckets: int, share: float, salt: str) -> Ints:
    """Bucket of each user by a salted hash, `UNASSIGNED` beyond the buckets.

    A hash needs no table of who is where, and another salt is an independent split.
    """
    digests = (hashlib.blake2b(f"{salt}|{user}".encode(), digest_size=8) for user in user_ids)
    place_U = np.array([int.from_bytes(digest.digest(), "big") / 2**64 for digest in digests])
    bucket_U = (place_U / share).astype(np.int64)
    return np.where(bucket_U < num_buckets, bucket_U, UNASSIGNED)


def permuted(first_RC: Scores, second_RC: Scores, user_R: Ints, seed: int) -> tuple[Scores, Scores]:
    """Two arms whose predictions a coin has swapped for each user: no lift can be between them."""
    coins_U = np.random.default_rng([seed, 3]).random(int(user_R.max()) + 1) < 0.5
    swap_R = coins_U[user_R][:, None]
    return np.where(swap_R, second_RC, first_RC), np.where(swap_R, first_RC, second_RC)
