"""One advertising market: bids, second prices, budgets with pacing, and cost control. Pure NumPy.

An advertiser pays for impressions and names what a conversion is worth to him, his target cost
per action (tCPA). An advertisement is ranked by eCPM = alpha * tCPA * pCTCVR; the winner pays
the best bid of another advertiser. Two controllers act between slices of traffic, so that a slice
is one vectorised auction:

- *Cost control* sets alpha of each advertiser so that cost / (conversions * tCPA) tends to 1.
  Without it a model that predicts 1.5 times as much earns 1.5 times as much, and Revenue would
  measure calibration. It counts expected conversions, those of a platform with very many: the
  noise of the few that happen here would move all prices of an arm together, and no interval
  over users could know of it.
- *Pacing* lets an advertiser take part in a share of auctions only while he spends faster than
  his weekly budget allows, and not at all once it is gone.

Shape suffixes: R requests, C candidates of a request, A advertisers, S slices.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taiji.arrays import Array, Ints

PRIOR_CONVERSIONS = 5.0
"""What is assumed of an advertiser's cost, as a number of conversions at the platform's mean."""

SLICES_A_WEEK = 14
"""How often the controllers act."""

_HALF_LIFE = 14.0  # slices after which an observation weighs half
_SLOWEST = 0.02  # least share of auctions while there is budget left


@dataclass(frozen=True)
class World:
    """One draw of all that no arm can change.

    Attributes:
        tcpa_A: What a conversion is worth to an advertiser, in currency.
        converts_RC: Whether the user would convert if he were shown the candidate. The same in
            all arms: common random numbers.
        patience_RC: Uniform draws in [0, 1); a candidate takes part where its advertiser's pace
            is above.
    """

    tcpa_A: Array
    converts_RC: NDArray[np.bool_]
    patience_RC: NDArray[np.float32]


@dataclass(frozen=True)
class Traffic:
    """Requests in the order of time.

    Attributes:
        advertiser_RC: Who owns each candidate.
        truth_RC: True probability of a conversion if shown.
        week_R: Number of the week; budgets are weekly.
        slice_R: Number of the slice, ascending, `SLICES_A_WEEK` in each week.
    """

    advertiser_RC: NDArray[np.int32]
    truth_RC: NDArray[np.float32]
    week_R: Ints
    slice_R: Ints


@dataclass(frozen=True)
class Steering:
    """What the controllers remember of each advertiser.

    Attributes:
        value_A: Expected conversions * tCPA, older ones weighing less.
        cost_A: What those impressions would have cost at alpha = 1, weighed alike.
        delivered: Value of all together since alpha was first set, weighed alike.
        paid: What it would have cost had the platform's level been 1, weighed alike.
        pace_A: Share of auctions to take part in.
    """

    value_A: Array
    cost_A: Array
    delivered: float
    paid: float
    pace_A: Array

    @classmethod
    def fresh(cls, num_advertisers: int) -> "Steering":
        """Before anything was observed."""
        nothing = np.zeros(num_advertisers)
        return cls(nothing, nothing, 0.0, 0.0, np.ones(num_advertisers))

    @property
    def informed(self) -> bool:
        """Whether there is anything to set alpha by."""
        return bool(self.cost_A.sum() > 0 and self.value_A.sum() > 0)

    def scaled(self, share: float) -> "Steering":
        """As much as `share` of the traffic would have told, for an arm that serves no more."""
        return Steering(
            self.value_A * share,
            self.cost_A * share,
            self.delivered * share,
            self.paid * share,
            self.pace_A,
        )


@dataclass(frozen=True)
class Rules:
    """What holds for one arm.

    Attributes:
        budget_A: Of a week, in currency; infinite where there is none.
        cost_control: Whether alpha moves.
    """

    budget_A: Array
    cost_control: bool = True


@dataclass(frozen=True)
class Served:
    """What came of each request, and where the controllers ended.

    Attributes:
        winner_R: Place of the candidate that was shown; -1 if none took part.
        revenue_R: What its advertiser paid.
        value_R: tCPA where it converted, else 0.
        expected_R: tCPA * true probability of a conversion.
        exhausted: Share of advertiser-weeks that ended without budget.
    """

    winner_R: Ints
    revenue_R: Array
    value_R: Array
    expected_R: Array
    steering: Steering
    exhausted: float


def alphas(steering: Steering, tcpa_A: Array) -> tuple[Array, float]:
    """Bid factors that make cost equal value, as far as was observed, and the platform's level.

    Each advertiser starts from the ratio of all together, as if it had been seen in
    `PRIOR_CONVERSIONS` conversions of his. The level, a factor of all, makes up for what this
    leaves: the platform as a whole pays what it delivers. Predictions of k times as much give
    1/k of every factor.
    """
    if not steering.informed:
        return np.ones(tcpa_A.size), 1.0
    level = steering.delivered / steering.paid if steering.paid > 0 else 1.0
    prior_A = PRIOR_CONVERSIONS * tcpa_A
    ratio = steering.cost_A.sum() / steering.value_A.sum()
    alpha_A = (steering.value_A + prior_A) / (steering.cost_A + prior_A * ratio)
    return alpha_A * level, level


def serve(
    traffic: Traffic,
    world: World,
    scores_RC: NDArray[np.float32],
    rules: Rules,
    steering: Steering,
    rows: Ints | None = None,
) -> Served:
    """Hold the auctions of all requests, or of `rows` (ascending), slice by slice.

    Args:
        traffic: The requests.
        world: What no arm can change.
        scores_RC: pCTCVR by the model under test.
        rules: Budgets and controls of the arm.
        steering: Where the controllers start.
        rows: Requests of the arm.
    """
    rows = np.arange(traffic.week_R.size) if rows is None else rows
    num = world.tcpa_A.size
    unsteered, spent_A = (np.ones(num), 1.0), np.zeros(num)
    week, num_weeks, exhausted = -1, 0, 0
    parts: list[_Part] = []
    for at in _slices(traffic.slice_R, rows):
        if traffic.week_R[at[0]] != week:
            exhausted += int((spent_A >= rules.budget_A).sum())
            week, num_weeks, spent_A = int(traffic.week_R[at[0]]), num_weeks + 1, np.zeros(num)
        alpha_A, level = alphas(steering, world.tcpa_A) if rules.cost_control else unsteered
        pace_A = np.where(spent_A < rules.budget_A, steering.pace_A, 0.0)
        part = _hold(traffic, world, scores_RC, alpha_A, pace_A, at)
        cost_A, value_A = part.by_advertiser(num)
        spent_A = spent_A + cost_A
        elapsed = (int(traffic.slice_R[at[0]]) % SLICES_A_WEEK + 1) / SLICES_A_WEEK
        pace_A = _pace(steering.pace_A, spent_A, rules.budget_A * elapsed)
        known = steering.informed  # the first slice tells how to set alpha, not how well it was
        delivered, paid = (float(x.sum()) * known for x in (value_A, cost_A / level))
        now = Steering(value_A, cost_A / alpha_A, delivered, paid, pace_A)
        steering = _remember(steering, now)
        parts.append(part)
    exhausted += int((spent_A >= rules.budget_A).sum())
    return Served(
        np.concatenate([np.empty(0, np.int64), *(part.winner_R for part in parts)]),
        np.concatenate([np.empty(0), *(part.revenue_R for part in parts)]),
        np.concatenate([np.empty(0), *(part.value_R for part in parts)]),
        np.concatenate([np.empty(0), *(part.expected_R for part in parts)]),
        steering,
        exhausted / max(1, num_weeks * num),
    )


@dataclass(frozen=True)
class _Part:
    """One slice: the columns of `Served`, and the winner's owner, 0 where there is none."""

    winner_R: Ints
    owner_R: NDArray[np.int32]
    revenue_R: Array
    value_R: Array
    expected_R: Array

    def by_advertiser(self, num: int) -> tuple[Array, Array]:
        """Cost and expected value of each advertiser."""
        cost_A = np.bincount(self.owner_R, weights=self.revenue_R, minlength=num)
        value_A = np.bincount(self.owner_R, weights=self.expected_R, minlength=num)
        return cost_A.astype(np.float64), value_A.astype(np.float64)


def _hold(
    traffic: Traffic,
    world: World,
    scores_RC: NDArray[np.float32],
    alpha_A: Array,
    pace_A: Array,
    at: Ints,
) -> _Part:
    """The auctions of one slice, in which no controller moves."""
    owner_RC = traffic.advertiser_RC[at]
    bids_RC = scores_RC[at] * (alpha_A * world.tcpa_A)[owner_RC]
    bids_RC *= world.patience_RC[at] < pace_A[owner_RC]
    winner_R, price_R = auction(bids_RC, owner_RC)
    shown_R, place_R = winner_R >= 0, np.maximum(winner_R, 0)
    owner_R = np.where(shown_R, owner_RC[np.arange(at.size), place_R], 0)
    worth_R = np.where(shown_R, world.tcpa_A[owner_R], 0.0)
    return _Part(
        winner_R,
        owner_R,
        price_R,
        worth_R * world.converts_RC[at, place_R],
        worth_R * traffic.truth_RC[at, place_R],
    )


def auction(bids_RC: Array, advertiser_RC: NDArray[np.int32]) -> tuple[Ints, Array]:
    """The winner of each request and his price: the best bid of another advertiser.

    One advertiser's candidates do not drive his own price. Where nobody bids above 0 the winner
    is -1; where nobody else bids the price is 0. A tie goes to the earlier candidate.
    """
    row_R = np.arange(bids_RC.shape[0])
    winner_R = bids_RC.argmax(axis=1)
    rivals_RC = advertiser_RC != advertiser_RC[row_R, winner_R][:, None]
    price_R = (bids_RC * rivals_RC).max(axis=1)
    return np.where(bids_RC[row_R, winner_R] > 0, winner_R, -1), price_R


def _slices(slice_R: Ints, rows: Ints) -> list[Ints]:
    """The rows of each slice, all in the order of time."""
    first = np.flatnonzero(np.diff(slice_R[rows], prepend=-1))
    return [part for part in np.split(rows, first[1:]) if part.size]


def _pace(pace_A: Array, spent_A: Array, planned_A: Array) -> Array:
    """Slow down by the square root of how far spending runs ahead of plan, and speed up alike."""
    ahead_A = np.sqrt(planned_A / np.maximum(spent_A, 1e-12))
    return np.asarray(np.clip(pace_A * ahead_A, _SLOWEST, 1.0))


def _remember(past: Steering, now: Steering) -> Steering:
    keep = 0.5 ** (1 / _HALF_LIFE)
    return Steering(
        past.value_A * keep + now.value_A,
        past.cost_A * keep + now.cost_A,
        past.delivered * keep + now.delivered,
        past.paid * keep + now.paid,
        now.pace_A,
    )
