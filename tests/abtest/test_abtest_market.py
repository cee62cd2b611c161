from dataclasses import replace

import ad_world
import numpy as np
import pytest

from taiji.abtest.experiment import open_market
from taiji.abtest.market import (
    PRIOR_CONVERSIONS,
    SLICES_A_WEEK,
    Rules,
    Steering,
    World,
    alphas,
    auction,
    serve,
)


@pytest.fixture(scope="module")
def ads():
    return ad_world.build()


def world_of(ads, patience=0.0):
    shape = ads.models.truth.shape
    draws = np.random.default_rng(5).random(shape, dtype=np.float32)
    return World(
        ads.plan.tcpa_A, draws < ads.models.truth, np.full(shape, patience, dtype=np.float32)
    )


def run(ads, scores, world=None, budget=np.inf, rows=None, **rules):
    num = ads.plan.tcpa_A.size
    settings = Rules(np.full(num, float(budget)), **rules)
    world = world or world_of(ads)
    return serve(ads.plan.traffic, world, scores, settings, Steering.fresh(num), rows)


def test_the_best_bid_wins_and_pays_the_best_of_another_advertiser():
    bids = np.array([[5.0, 4.0, 3.0], [1.0, 2.0, 0.5], [0.0, 0.0, 0.0], [2.0, 2.0, 1.0]])
    owners = np.array([[0, 0, 1], [0, 1, 2], [0, 1, 2], [0, 1, 2]], dtype=np.int32)
    winner, price = auction(bids, owners)
    # Advertiser 0 does not drive up his own price; nobody bids in row 2; a tie goes to the first.
    assert winner.tolist() == [0, 1, -1, 0]
    assert price.tolist() == [3.0, 1.0, 0.0, 2.0]


def test_a_lone_bidder_pays_nothing():
    winner, price = auction(np.array([[5.0, 0.0]]), np.array([[0, 1]], dtype=np.int32))
    assert (winner[0], price[0]) == (0, 0.0)


def test_alpha_by_hand():
    # All together cost 12 for 6, twice their value; the level is 6 / 8. Advertiser 0 has 4 for 10
    # and a prior of 5 conversions at 1: 0.75 (4 + 5) / (10 + 5 * 2). Advertiser 1 values one at 2.
    steering = Steering(np.array([4.0, 2.0]), np.array([10.0, 2.0]), 6.0, 8.0, np.ones(2))
    alpha, level = alphas(steering, np.array([1.0, 2.0]))
    assert PRIOR_CONVERSIONS == 5
    assert level == 0.75
    assert alpha == pytest.approx([0.75 * 9 / 20, 0.75 * 12 / 22])


def test_without_any_observation_alpha_is_one():
    alpha, level = alphas(Steering.fresh(3), np.array([1.0, 2.0, 3.0]))
    assert (alpha.tolist(), level) == ([1.0, 1.0, 1.0], 1.0)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_cost_control_takes_cost_to_value_whatever_the_model_overrates(ads, factor):
    base = ads.models.arms["base"] * np.float32(factor)
    last = ads.plan.traffic.week_R == ad_world.NUM_WEEKS - 1
    served = run(ads, base)
    ratio = served.revenue_R[last].sum() / served.expected_R[last].sum()
    assert ratio == pytest.approx(1.0, abs=0.05)


def test_without_control_and_budgets_predictions_times_k_are_revenue_times_k(ads):
    plain = run(ads, ads.models.arms["base"], cost_control=False)
    overrated = run(ads, ads.models.arms["base"] * np.float32(2), cost_control=False)
    assert np.array_equal(plain.winner_R, overrated.winner_R)
    assert overrated.revenue_R == pytest.approx(2 * plain.revenue_R)
    assert np.array_equal(plain.value_R, overrated.value_R)


def test_a_better_model_delivers_more(ads):
    base, both, truth = (
        run(ads, scores).expected_R.sum()
        for scores in (ads.models.arms["base"], ads.models.arms["both"], ads.models.truth)
    )
    assert base < both < truth


def test_the_same_winner_converts_alike_under_every_model(ads):
    one, other = (run(ads, ads.models.arms[arm]) for arm in ("base", "both"))
    same = one.winner_R == other.winner_R
    assert 0.2 < same.mean() < 0.95
    assert np.array_equal(one.value_R[same], other.value_R[same])


def test_a_budget_is_overrun_by_no_more_than_a_slice_and_pacing_makes_it_last(ads):
    free = run(ads, ads.models.arms["base"])
    rng = np.random.default_rng(0).random(ads.models.truth.shape, dtype=np.float32)
    world = replace(world_of(ads), patience_RC=rng)
    budget = 0.5 * free.revenue_R.sum() / ad_world.NUM_WEEKS / ads.plan.tcpa_A.size
    served = run(ads, ads.models.arms["base"], world, budget)
    week = ads.plan.traffic.week_R
    spent = np.bincount(week, weights=served.revenue_R)
    most = budget * ads.plan.tcpa_A.size
    assert (spent < 1.3 * most).all()
    unpaced = run(ads, ads.models.arms["base"], world_of(ads, patience=0.0), budget)
    late = (ads.plan.traffic.slice_R % SLICES_A_WEEK >= SLICES_A_WEEK - 3) & (week > 0)
    assert served.revenue_R[late].sum() > 1.5 * unpaced.revenue_R[late].sum()
    assert 0 < served.exhausted <= 1
    assert free.exhausted == 0


def test_an_arm_is_steered_by_its_own_traffic_alone(ads):
    rows = np.flatnonzero(ads.plan.user_R < 100)
    base = ads.models.arms["base"]
    other = np.where((ads.plan.user_R < 100)[:, None], base, 3 * base)
    one, two = (run(ads, scores, rows=rows) for scores in (base, other))
    assert np.array_equal(one.revenue_R, two.revenue_R)
    assert one.revenue_R.size == rows.size


def test_the_same_seed_gives_the_same_bytes(ads):
    sums = [
        open_market(ads.plan, ads.models.arms["base"], 3).serve(ads.models.arms["both"])[0]
        for _ in range(2)
    ]
    assert sums[0].tobytes() == sums[1].tobytes()
    other = open_market(ads.plan, ads.models.arms["base"], 4).serve(ads.models.arms["both"])[0]
    assert not np.array_equal(sums[0], other)


def test_no_requests_bring_nothing(ads):
    served = run(ads, ads.models.arms["base"], rows=np.empty(0, dtype=np.int64))
    assert served.revenue_R.size == 0
    assert served.exhausted == 0
