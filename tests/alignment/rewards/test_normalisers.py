import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from taiji.alignment.rewards.normalisers import (
    Discount,
    Linear,
    Log,
    Rank,
    discount_from_json,
    fit_normaliser,
    normaliser_from_json,
)
from taiji.errors import DataError, DivergenceError

FROZEN = ["minmax", "quantile", "winsorised", "log", "rank"]
pools = arrays(np.float64, st.integers(2, 50), elements=st.floats(0, 1))
frozen = st.sampled_from(FROZEN)


def fitted(kind, pool):
    """The normaliser, or None where the pool says too little to fit it."""
    try:
        return fit_normaliser(kind, pool)
    except DataError:
        return None


def test_min_max_follows_eq_4_by_hand():
    # pool 0.1 .. 0.5: 0.2 -> 0.25; what lies outside is clipped
    normaliser = fit_normaliser("minmax", np.array([0.5, 0.1, 0.3]))
    assert normaliser.apply(np.array([0.2, 0.0, 0.9])) == pytest.approx([0.25, 0, 1])


def test_the_quantile_bound_ignores_one_outlier_in_ten_thousand():
    pool = np.append(np.linspace(0, 0.1, 10_000), 0.9)
    normaliser = fit_normaliser("quantile", pool)
    assert (normaliser.low, normaliser.high) == (0, pytest.approx(0.1, rel=2e-3))
    assert normaliser.apply(np.array([0.05]))[0] == pytest.approx(0.5, rel=2e-3)
    assert fit_normaliser("minmax", pool).apply(np.array([0.05]))[0] == pytest.approx(0.05 / 0.9)


def test_winsorised_bounds_are_the_first_and_the_last_percent():
    # 0, 1, ... 100: 1 % is 1, 99 % is 99; 50 is half way
    normaliser = fit_normaliser("winsorised", np.arange(101.0))
    assert (normaliser.low, normaliser.high) == (1, 99)
    assert normaliser.apply(np.array([0.5, 1, 50, 99, 100])) == pytest.approx([0, 0, 0.5, 1, 1])


def test_log_pays_equal_ratios_equally():
    # 0.01 .. 1 over two decades: 0.1 is half way; nothing has no logarithm and earns nothing
    normaliser = fit_normaliser("log", np.array([0.0, 0.01, 1.0]))
    assert normaliser.apply(np.array([0, 0.01, 0.1, 1.0])) == pytest.approx([0, 0, 0.5, 1])


def test_rank_is_the_share_below_by_hand():
    # Shares 0, 1/4, 1/2, 3/4, 1 of 1, 2, 2, 3, 9. The twos stand at 1/4 and 1/2: 3/8. 6 is half
    # way from 3 (3/4) to 9 (1).
    normaliser = fit_normaliser("rank", np.array([1.0, 2, 2, 3, 9]))
    out = normaliser.apply(np.array([0, 1, 2, 3, 6, 9, 10]))
    assert out == pytest.approx([0, 0, 0.375, 0.75, 0.875, 1, 1])


@given(pools, frozen)
def test_normalised_scores_lie_in_the_unit_interval_and_keep_their_order(pool, kind):
    normaliser = fitted(kind, pool)
    if normaliser is not None:
        out = normaliser.apply(np.sort(pool))
        assert ((out >= 0) & (out <= 1)).all()
        assert (np.diff(out) >= 0).all()


@given(pools, pools, frozen)
def test_what_is_applied_never_moves_the_bounds(pool, scores, kind):
    normaliser = fitted(kind, pool)
    if normaliser is not None:
        before = json.dumps(normaliser.to_json())
        alone = [normaliser.apply(scores[n : n + 1])[0] for n in range(scores.size)]
        assert normaliser.apply(scores).tolist() == alone, "a rollout's reward is its own affair"
        assert json.dumps(normaliser.to_json()) == before


@pytest.mark.parametrize("kind", FROZEN)
def test_a_normaliser_survives_the_trip_through_json(kind):
    normaliser = fit_normaliser(kind, np.array([0.1, 0.2, 0.7 / 3]))
    assert normaliser_from_json(json.loads(json.dumps(normaliser.to_json()))) == normaliser


@pytest.mark.parametrize("kind", FROZEN)
@pytest.mark.parametrize("pool", [[], [0.5, 0.5], [0.1, np.nan]])
def test_a_pool_that_says_nothing_is_refused(kind, pool):
    with pytest.raises(DataError):
        fit_normaliser(kind, np.array(pool))


def test_a_logarithm_needs_positive_scores():
    with pytest.raises(DataError, match="above 0"):
        fit_normaliser("log", np.array([-1.0, 0.0]))


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"kind": "cube"},
        {"kind": "minmax", "low": 1, "high": 0},
        {"kind": "quantile"},
        {"kind": "log", "low": 1},
        {"kind": "rank", "knots": [0, 1], "levels": [0]},
        {"kind": "rank", "knots": [1, 0], "levels": [0, 1]},
    ],
)
def test_a_damaged_normaliser_is_refused(value):
    with pytest.raises(DataError):
        normaliser_from_json(value)


@pytest.mark.parametrize(
    "normaliser",
    [Linear("minmax", 0.0, 1.0), Log(0.1, 1.0), Rank((0.0, 1.0), (0.0, 1.0))],
)
def test_a_score_that_is_nan_is_no_reward(normaliser):
    with pytest.raises(DivergenceError):
        normaliser.apply(np.array([np.nan]))


def test_the_discount_by_hand():
    # Means 0.4 and 0.1, overall 0.25. Half the lift of the second: sqrt(0.25 / 0.1) = 1.581.
    discount = Discount.fit(0.5, ["popular", "rare"], np.array([0.4, 0.1]))
    out = discount.apply(np.array([0.2, 0.2, 0.2]), ["popular", "rare", "unheard of"])
    assert out == pytest.approx([0.2 * 0.25**0.5 / 0.4**0.5, 0.2 * 1.5811388, 0.2])


def test_no_discount_changes_nothing_and_the_full_one_leaves_no_constant_answer():
    scores = np.random.default_rng(0).uniform(0.01, 1, (30, 4)) * [1, 0.1, 5, 0.02]
    items = ["a", "b", "c", "d"]
    for power in (0.0, 1.0):
        discount = Discount.fit(power, items, scores.mean(axis=0))
        out = discount.apply(scores.ravel(), items * 30).reshape(30, 4)
        if power == 0:
            assert out == pytest.approx(scores)
        else:
            assert np.ptp(out.mean(axis=0)) < 1e-12, "every constant answer earns the same"


def test_an_item_that_hardly_anybody_wants_is_not_lifted_to_the_sky():
    discount = Discount.fit(1.0, ["a", "never"], np.array([1.0, 0.0]))
    assert discount.apply(np.array([0.001]), ["never"])[0] == pytest.approx(1.0)


def test_a_discount_survives_the_trip_through_json():
    discount = Discount.fit(0.25, ["a", "b"], np.array([0.1, 0.7 / 3]))
    assert discount_from_json(json.loads(json.dumps(discount.to_json()))) == discount


@pytest.mark.parametrize("means", [[], [0.0, 0.0], [np.nan, 1.0]])
def test_a_discount_without_means_is_refused(means):
    with pytest.raises(DataError):
        Discount.fit(0.5, ["a", "b"][: len(means)], np.array(means))


@pytest.mark.parametrize("value", [{}, {"power": 1, "item_means": [1], "overall": 1}])
def test_a_damaged_discount_is_refused(value):
    with pytest.raises(DataError):
        discount_from_json(value)


def test_a_pool_of_next_to_no_width_cuts_what_lies_above_it():
    normaliser = fit_normaliser("minmax", np.array([0.0, 2.2e-311]))
    assert normaliser.apply(np.array([0.0, 1.0])).tolist() == [0.0, 1.0]
