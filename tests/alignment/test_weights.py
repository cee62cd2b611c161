import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from taiji.alignment.weights import group_spread, popo_light_weights, popo_weights
from taiji.errors import DivergenceError

vectors = arrays(np.float64, st.integers(1, 5), elements=st.floats(-1e3, 1e3))
rewards = arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(2, 5), st.integers(1, 4)),
    elements=st.floats(-10, 10, width=16),
)


def test_popo_follows_eq_5_by_hand():
    # 0.5 e^0.2 : 0.5 e^0  ->  0.549834 : 0.450166
    out = popo_weights(np.log([0.5, 0.5]), np.array([2.0, 0.0]), step_size=0.1)
    assert np.exp(out) == pytest.approx([0.549834, 0.450166], abs=1e-6)


def test_popo_follows_the_paper_recursion_over_steps_by_hand():
    # w~ = (1, 1) -> (e^0.1, e^0.3) -> (e^0.2, e^0.2): two steps that cancel
    log_weights = popo_weights(np.zeros(2), np.array([1.0, 3.0]), step_size=0.1)
    assert np.exp(log_weights) == pytest.approx([0.450166, 0.549834], abs=1e-6)
    log_weights = popo_weights(log_weights, np.array([1.0, -1.0]), step_size=0.1)
    assert np.exp(log_weights) == pytest.approx([0.5, 0.5], abs=1e-12)


@given(vectors, st.floats(1e-6, 1e3))
def test_popo_weights_lie_on_the_simplex(alignment, step_size):
    out = popo_weights(np.zeros(len(alignment)), alignment, step_size=step_size)
    assert np.isfinite(out).all()
    assert np.exp(out).sum() == pytest.approx(1, abs=1e-9)


@given(vectors, st.floats(-100, 100))
def test_a_shift_of_all_alignments_changes_nothing(alignment, shift):
    plain = popo_weights(np.zeros(len(alignment)), alignment, step_size=0.1)
    shifted = popo_weights(np.zeros(len(alignment)), alignment + shift, step_size=0.1)
    assert np.exp(shifted) == pytest.approx(np.exp(plain), abs=1e-9)


def test_a_weight_that_underflowed_can_come_back():
    log_weights = popo_weights(np.zeros(2), np.array([0.0, 1e4]), step_size=1.0)
    assert np.exp(log_weights)[0] == 0
    log_weights = popo_weights(log_weights, np.array([1e4, 0.0]), step_size=1.0)
    assert np.exp(log_weights) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_popo_refuses_alignments_that_are_not_finite(bad):
    with pytest.raises(DivergenceError):
        popo_weights(np.zeros(2), np.array([0.0, bad]), step_size=0.1)


def test_popo_light_follows_eq_7_by_hand():
    # Reward 1: groups (0, 1) and (1, 1): sigma 0.5 and 0, mean 0.25; mu 0.5 and 1, mean 0.75.
    # Reward 2: groups (2, 4) and (2, 2): sigma 1 and 0, mean 0.5; mu 3 and 2, mean 2.5.
    # 0.25 / 0.75 : 0.5 / 2.5  =  1/3 : 1/5  =  5/8 : 3/8
    rewards_PGK = np.array([[[0, 2], [1, 4]], [[1, 2], [1, 2]]], dtype=float)
    weights = popo_light_weights(rewards_PGK, epsilon=1e-12)
    assert weights == pytest.approx([5 / 8, 3 / 8])


def test_popo_light_uses_the_size_of_the_mean_not_its_sign():
    rewards_PGK = np.array([[[-1.0, 1.0], [-3.0, 3.0]]])
    assert popo_light_weights(rewards_PGK) == pytest.approx([0.5, 0.5])


def test_spread_between_groups_earns_nothing():
    rewards_PGK = np.array([[[0.0, 0.1], [0.0, 0.2]], [[9.0, 0.1], [9.0, 0.2]]])
    assert popo_light_weights(rewards_PGK) == pytest.approx([0.0, 1.0])


def test_no_spread_anywhere_keeps_the_last_weights():
    assert popo_light_weights(np.full((3, 4, 2), 0.1)) is None


def test_a_reward_that_does_not_apply_is_left_out():
    rewards_PGK = np.array([[[0.0, 5.0], [1.0, np.nan], [0.5, 7.0]]])
    mu, sigma = group_spread(rewards_PGK, ~np.isnan(rewards_PGK))
    assert mu == pytest.approx(np.array([[0.5, 6.0]]))
    assert sigma == pytest.approx(np.array([[np.std([0, 1, 0.5]), 1.0]]))


@given(rewards)
def test_popo_light_weights_lie_on_the_simplex(rewards_PGK):
    weights = popo_light_weights(rewards_PGK)
    if weights is None:
        assert (np.ptp(rewards_PGK, axis=1) <= 1e-9).all()
    else:
        assert np.isfinite(weights).all()
        assert (weights >= 0).all()
        assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_popo_light_refuses_rewards_that_are_not_finite(bad):
    with pytest.raises(DivergenceError):
        popo_light_weights(np.array([[[0.0, 1.0], [bad, 1.0]]]))
