"""All that is served: every arm and control in every world, and the buckets in the first.

Shape suffixes: U users, M measures.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taiji.abtest.experiment import (
    AA,
    OVERRATED,
    Market,
    Plan,
    Scores,
    open_market,
    permuted,
)
from taiji.abtest.market import Served
from taiji.arrays import Array, Ints
from taiji.ranking.inputs import Arm

ARMS: tuple[Arm, ...] = ("base", "intra", "cross", "both", "match")
"""The 2 x 2 design of the paper's Table 2, and our arm beside it, without a bucket."""

OnServed = Callable[[int, int], None]


@dataclass(frozen=True)
class Models:
    """pCTCVR of every candidate by every model.

    Attributes:
        arms: Of the models under test, by arm; `base` among them.
        reseeded: Of the base model trained with another seed.
        truth: Of the response model itself.
    """

    arms: Mapping[str, Scores]
    reseeded: Scores
    truth: Scores


@dataclass(frozen=True)
class Outcomes:
    """What came of each user.

    Attributes:
        paired: (U, M) by arm or control, summed over the worlds.
        first: (U, M) by arm, of the first world alone.
        before_UM: Of the first world's warm-up weeks, served by the base.
        bucketed: (U, M) by arm, in the first world, of the users in its bucket; others 0.
        cost_ratio: Cost over expected conversions * tCPA, by arm or control, over all worlds.
        exhausted: Share of advertiser-weeks that ended without budget, likewise the mean.
        served: Share of requests in which somebody could advertise, likewise.
    """

    paired: dict[str, Array]
    first: dict[str, Array]
    before_UM: Array
    bucketed: dict[str, Array]
    cost_ratio: dict[str, float]
    exhausted: dict[str, float]
    served: dict[str, float]


@dataclass(frozen=True)
class Split:
    """Buckets: the arm of each number, the number of each user, and the share of each bucket."""

    arms: tuple[str, ...]
    bucket_U: Ints
    share: float

    def members(self, arm: str) -> NDArray[np.bool_]:
        """Who is served by an arm."""
        return np.asarray(self.bucket_U == self.arms.index(arm))


def run_trial(
    plan: Plan, models: Models, split: Split, *, worlds: int, seed: int, on_served: OnServed
) -> Outcomes:
    """Serve all arms and controls in `worlds` worlds, and the buckets in the first."""
    served: dict[str, list[tuple[Array, Served]]] = {}
    bucketed: dict[str, Array] = {}
    first: Market | None = None
    for world in range(worlds):
        market = open_market(plan, models.arms["base"], seed + world)
        if first is None:
            first = market
            bucketed = {
                arm: market.serve(_of_bucket(models, arm), split.members(arm), split.share)[0]
                for arm in split.arms
            }
        for name, scores, control in _variants(plan, models, seed + world):
            served.setdefault(name, []).append(market.serve(scores, cost_control=control))
        on_served(world + 1, worlds)
    assert first is not None, "the settings ask for at least one world"
    return Outcomes(
        paired={name: np.sum([sums for sums, _ in runs], axis=0) for name, runs in served.items()},
        first={arm: served[arm][0][0] for arm in models.arms},
        before_UM=first.before_UM,
        bucketed=bucketed,
        cost_ratio={name: _cost_ratio(runs) for name, runs in served.items()},
        exhausted={name: _mean(one.exhausted for _, one in runs) for name, runs in served.items()},
        served={
            name: _mean(float((one.winner_R >= 0).mean()) for _, one in runs)
            for name, runs in served.items()
        },
    )


def _of_bucket(models: Models, arm: str) -> Scores:
    return models.arms["base" if arm == AA else arm]


def _variants(plan: Plan, models: Models, seed: int) -> Iterator[tuple[str, Scores, bool | None]]:
    """Every arm and control: its name, predictions, and cost control if not that of the plan."""
    base = models.arms["base"]
    for arm, scores in models.arms.items():
        yield arm, scores, None
    yield "reseeded", models.reseeded, None
    yield "truth", models.truth, None
    other = models.arms.get("both", models.reseeded)
    for name, scores in zip(
        ("permuted", "permuted_other"), permuted(base, other, plan.user_R, seed), strict=True
    ):
        yield name, scores, None
    overrated = (base * np.float32(OVERRATED)).astype(np.float32)
    yield "steered", base, True
    yield "steered_overrated", overrated, True
    yield "unsteered", base, False
    yield "unsteered_overrated", overrated, False


def _cost_ratio(runs: list[tuple[Array, Served]]) -> float:
    cost, value = (
        sum(float(column.sum()) for column in columns)
        for columns in zip(*((one.revenue_R, one.expected_R) for _, one in runs), strict=True)
    )
    return cost / value if value else float("nan")


def _mean(values: Iterator[float]) -> float:
    return float(np.mean(list(values)))
