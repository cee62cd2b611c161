import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from taiji.alignment.popo.weights import (
    alignment_scores,
    capped_step_size,
    floored,
    group_spread,
    heard,
    leaked,
    popo_light_weights,
    popo_weights,
    smoothed,
    tchebycheff_weights,
    trace_normalised,
)
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


def test_an_overflow_is_refused_and_not_turned_into_nan():
    with pytest.raises(DivergenceError), np.errstate(over="ignore"):
        popo_weights(np.zeros(2), np.array([0.0, 1e308]), step_size=1e3)


def test_alignment_scores_follow_eq_6_by_hand():
    # g_1 = (1, 2), g_2 = (0, 1), g_3 = (-1, 0): the sum is (0, 3), so I = (6, 3, 0).
    gradients = np.array([[1.0, 2.0], [0.0, 1.0], [-1.0, 0.0]])
    assert alignment_scores(gradients @ gradients.T).tolist() == [6, 3, 0]


def test_trace_normalisation_by_hand_also_when_gradients_cancel():
    # |g_1|^2 = 4 and |g_2|^2 = 4 that cancel: I = 0, and its sum is of no use as a divisor.
    gram_KK = np.array([[4.0, -4.0], [-4.0, 4.0]])
    assert trace_normalised(alignment_scores(gram_KK), gram_KK).tolist() == [0, 0]
    assert trace_normalised(np.array([3.0, 1.0]), np.diag([3.0, 1.0])).tolist() == [0.75, 0.25]


def test_a_capped_step_size_by_hand():
    # .5 * (5 - 1) = 2 against a cap of .4: a fifth of the step.
    assert capped_step_size(np.array([1.0, 5.0, 2.0]), 0.5, 0.4) == pytest.approx(0.1)
    assert capped_step_size(np.array([1.0, 5.0, 2.0]), 0.05, 0.4) == 0.05
    assert capped_step_size(np.zeros(2), 0.5, 0.4) == 0.5


def test_a_leak_by_hand():
    out = leaked(np.array([-2.0, -4.0]), np.array([-1.0, -1.0]), 0.25)
    assert out == pytest.approx([-1.75, -3.25])


def test_a_floor_by_hand():
    # .04 rises to .05; the others share .95 as .90 : .06.
    out = np.exp(floored(np.log([0.90, 0.06, 0.04]), 0.05))
    assert out == pytest.approx([0.90 * 0.95 / 0.96, 0.06 * 0.95 / 0.96, 0.05])


def test_a_floor_may_push_others_onto_it():
    # Paying for the third takes the second to .051 * .95 / .981 < .05.
    assert np.exp(floored(np.log([0.93, 0.051, 0.019]), 0.05)) == pytest.approx([0.9, 0.05, 0.05])


def test_a_floor_lifts_a_weight_of_zero():
    assert np.exp(floored(np.array([0.0, -np.inf]), 0.1)) == pytest.approx([0.9, 0.1])


@given(
    arrays(np.float64, st.integers(2, 6), elements=st.floats(-20, 0)),
    st.floats(0, 0.99),
    st.integers(0, 2**32 - 1),
)
def test_floored_weights_are_the_nearest_in_relative_entropy(logits, share, seed):
    log_weights = logits - np.logaddexp.reduce(logits)
    floor = share / len(logits)
    out = np.exp(floored(log_weights, floor))
    assert out.sum() == pytest.approx(1)
    assert out.min() >= floor * (1 - 1e-12)
    other = floor + (1 - share) * np.random.default_rng(seed).dirichlet(np.ones(len(logits)))
    assert out @ (np.log(out) - log_weights) <= other @ (np.log(other) - log_weights) + 1e-9


@given(st.floats(0, 0.999), arrays(np.float64, st.integers(1, 8), elements=st.floats(-9, 9)))
def test_smoothing_is_the_mean_with_weights_that_decay_by_age(smoothing, values):
    mean = np.zeros(1)
    for n, value in enumerate(values):
        mean = smoothed(mean, np.array([value]), smoothing=smoothing, count_K=np.array([n + 1]))
    weights = smoothing ** np.arange(len(values))[::-1]
    assert mean == pytest.approx([weights @ values / weights.sum()], abs=1e-9)


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


def test_a_reward_is_heard_where_it_applies_to_two_rollouts_of_a_group_one_of_which_trains():
    # a: twice in the first group. b: once in each. c: only in the second group.
    applies = np.array(
        [[[1, 1, 0], [1, 0, 0], [0, 0, 0]], [[0, 1, 1], [0, 0, 1], [0, 0, 1]]], dtype=bool
    )
    assert heard(applies).tolist() == [True, False, True]
    masked = np.array([[True, False, False], [False, False, False]])
    assert heard(applies, masked).tolist() == [True, False, False]


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


def test_smooth_tchebycheff_follows_its_formula_by_hand():
    # lambda (.25, .75), gaps (.4, .2) of ranges (1, 2), mu .1: missing (.1, .075);
    # .25 e^1 : .375 e^.75 = .679570 : .793875  ->  .461212 : .538788
    out = tchebycheff_weights(
        np.array([0.25, 0.75]), np.array([0.4, 0.2]), np.array([1.0, 2.0]), mu=0.1
    )
    assert np.exp(out) == pytest.approx([0.461212, 0.538788], abs=1e-6)


@given(st.floats(0.1, 10), st.floats(0.01, 1), st.floats(0.05, 0.95))
def test_smooth_tchebycheff_knows_no_scale_but_in_the_weights_that_undo_it(scale, mu, asked):
    # A reward ten times smaller has a weight ten times larger, up to the common factor.
    asked_K, gap_K = np.array([asked, 1 - asked]), np.array([0.3, 0.6])
    plain = tchebycheff_weights(asked_K, gap_K, np.ones(2), mu=mu)
    scaled = tchebycheff_weights(asked_K, gap_K * [1, scale], np.array([1.0, scale]), mu=mu)
    assert np.diff(scaled) == pytest.approx(np.diff(plain) - np.log(scale), abs=1e-9)


def test_what_nobody_asks_for_has_no_weight_and_a_broken_gap_is_refused():
    out = tchebycheff_weights(np.array([1.0, 0.0]), np.array([0.1, 0.9]), np.ones(2), mu=0.1)
    assert np.exp(out).tolist() == [1, 0]
    with pytest.raises(DivergenceError, match="not finite"):
        tchebycheff_weights(np.array([0.5, 0.5]), np.array([np.nan, 0.9]), np.ones(2), mu=0.1)
