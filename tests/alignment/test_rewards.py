import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from taiji.alignment.advantages import AdvantageRule
from taiji.alignment.rewards import (
    Logprobs,
    MinMax,
    Quantile,
    fit_normaliser,
    group_advantages,
    grpo_objective,
    mix,
    normaliser_from_json,
    semantic_reward,
)
from taiji.errors import DataError, DivergenceError

pools = arrays(np.float64, st.integers(2, 50), elements=st.floats(0, 1))


def test_semantic_reward_follows_eq_3_by_hand():
    # cos((3, 4), (4, 3)) = 24/25; opposite: -1; an empty answer is the zero vector: 0
    answers = np.array([[3, 4], [1, 0], [0, 0]], dtype=np.float32)
    targets = np.array([[4, 3], [-2, 0], [1, 0]], dtype=np.float32)
    assert semantic_reward(answers, targets) == pytest.approx([24 / 25, -1, 0])


def test_semantic_reward_refuses_nan():
    with pytest.raises(DivergenceError):
        semantic_reward(np.array([[np.nan]]), np.array([[1.0]]))


def test_min_max_follows_eq_4_by_hand():
    # pool 0.1 .. 0.5: 0.2 -> 0.25; what lies outside is clipped
    normaliser = MinMax.fit(np.array([0.5, 0.1, 0.3]))
    assert normaliser.apply(np.array([0.2, 0.0, 0.9])) == pytest.approx([0.25, 0, 1])


def test_the_quantile_bound_ignores_one_outlier_in_ten_thousand():
    pool = np.append(np.linspace(0, 0.1, 10_000), 0.9)
    normaliser = Quantile.fit(pool)
    assert normaliser.high == pytest.approx(0.1, rel=2e-3)
    assert normaliser.apply(np.array([0.05]))[0] == pytest.approx(0.5, rel=2e-3)
    assert MinMax.fit(pool).apply(np.array([0.05]))[0] == pytest.approx(0.05 / 0.9)


@pytest.mark.parametrize("kind", ["minmax", "quantile"])
def test_a_normaliser_survives_the_trip_through_json(kind):
    normaliser = fit_normaliser(kind, np.array([0.1, 0.2, 0.7 / 3]))
    assert normaliser_from_json(json.loads(json.dumps(normaliser.to_json()))) == normaliser


@given(pools, st.sampled_from(["minmax", "quantile"]))
def test_normalised_scores_lie_in_the_unit_interval_and_keep_their_order(pool, kind):
    if np.ptp(pool) == 0:
        with pytest.raises(DataError):
            fit_normaliser(kind, pool)
        return
    out = fit_normaliser(kind, pool).apply(np.sort(pool))
    assert ((out >= 0) & (out <= 1)).all()
    assert (np.diff(out) >= 0).all()


@pytest.mark.parametrize("kind", ["minmax", "quantile"])
@pytest.mark.parametrize("pool", [[], [0.5, 0.5], [0.1, np.nan]])
def test_a_pool_that_says_nothing_is_refused(kind, pool):
    with pytest.raises(DataError):
        fit_normaliser(kind, np.array(pool))


@pytest.mark.parametrize(
    "value", [{}, {"kind": "rank"}, {"kind": "minmax", "low": 1, "high": 0}, {"kind": "quantile"}]
)
def test_a_damaged_normaliser_is_refused(value):
    with pytest.raises(DataError):
        normaliser_from_json(value)


def test_a_score_that_is_nan_is_no_reward():
    with pytest.raises(DivergenceError):
        MinMax(0.0, 1.0).apply(np.array([np.nan]))


def test_mix_follows_eq_9_by_hand():
    assert mix(np.array([[[1.0, 0.5], [0.0, 1.0]]]), np.array([0.25, 0.75])).tolist() == [
        [0.625, 0.75]
    ]


def test_advantages_follow_eq_8_by_hand():
    # (0, 1, 2): mean 1, sample deviation 1; a group without spread gives nothing
    out = group_advantages(np.array([[0.0, 1.0, 2.0], [5.0, 5.0, 5.0]]), epsilon=0.0001)
    assert out == pytest.approx(np.array([[-1, 0, 1], [0, 0, 0]]) / 1.0001)


def test_the_trainers_advantages_are_the_reference():
    rewards = np.random.default_rng(0).normal(size=(3, 4, 2))
    weights = np.array([0.3, 0.7])
    rule = AdvantageRule(num_generations=4, scale="group", aggregation="sum_then_normalize")
    flat = torch.tensor(rewards.reshape(-1, 2))
    combined, _ = rule.combined(flat, torch.tensor(weights))
    assert combined.numpy() == pytest.approx(group_advantages(mix(rewards, weights)).ravel())
    alone = rule.alone(flat).numpy().reshape(3, 4, 2)
    for k in range(2):
        assert alone[:, :, k] == pytest.approx(group_advantages(rewards[:, :, k]))


def test_objective_follows_eq_8_by_hand():
    # One token each. Ratio 2 clipped to 1.2 for advantage 1; for advantage -1 the minimum
    # keeps -2. d = log(ref / policy) = log 0.5: k3 = 0.5 + log 2 - 1 = 0.193147.
    # Mean (1.2 - 2) / 2 = -0.4; minus 0.1 * 0.193147.
    logprobs = Logprobs(
        policy=np.log([[0.4], [0.4]]), old=np.log([[0.2], [0.2]]), reference=np.log([[0.2], [0.2]])
    )
    value = grpo_objective(
        logprobs, np.array([1.0, -1.0]), np.ones((2, 1), bool), clip=0.2, beta=0.1
    )
    assert value == pytest.approx(-0.4 - 0.0193147, abs=1e-6)


def test_padding_counts_for_nothing():
    short = Logprobs(*(np.array([[-1.0]]) for _ in range(3)))
    padded = Logprobs(*(np.array([[-1.0, 7.0]]) for _ in range(3)))
    mask = np.array([[True, False]])
    advantages = np.array([2.0])
    assert grpo_objective(padded, advantages, mask) == grpo_objective(
        short, advantages, np.ones((1, 1), bool)
    )
