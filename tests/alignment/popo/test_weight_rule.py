import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rule_toy import KINDS, NAMES, random_grams, rule, step

from taiji.errors import ConfigError, DivergenceError

STABLE = {
    "eta": 1.0,
    "normalise": "trace",
    "max_log_step": 1.0,
    "floor": 0.02,
    "leak": 0.02,
}

gradients = arrays(
    np.float64, st.tuples(st.integers(2, 5), st.just(6)), elements=st.floats(-10, 10, width=32)
)


# -- The paper's recursion ---------------------------------------------------------------------


def test_two_steps_by_hand():
    # I = (4 + 1, 1 + 2) = (5, 3); weights e^.5 : e^.3 = 0.549834 : 0.450166; then e^.8 : e^.8.
    two = rule(("a", "b"))
    assert two.step_on_gradients(np.array([[4.0, 1.0], [1.0, 2.0]])).tolist() == [5, 3]
    assert two.weights_K == pytest.approx([0.549834, 0.450166], abs=1e-6)
    two.step_on_gradients(np.array([[2.0, 1.0], [1.0, 4.0]]))
    assert two.weights_K == pytest.approx([0.5, 0.5], abs=1e-12)


@pytest.mark.parametrize("kind", ["popo", "popo_split"])
def test_weights_equal_the_recursion_by_hand_over_200_steps(kind):
    eta, mu = 0.03, 1.5
    ours = rule(rule=kind, eta=eta, mu=mu, initial=[0.2, 0.3, 0.5])
    unnormalised = [0.2, 0.3, 0.5]
    for gram_KK in random_grams(200):
        unbiased_KK = gram_KK - np.diag([6.0, 8.0, 7.0]) if kind == "popo_split" else gram_KK
        alignment = [sum(float(g) for g in row) for row in unbiased_KK]
        weights = [w / sum(unnormalised) for w in unnormalised]
        unnormalised = [w * math.exp(eta * i / mu) for w, i in zip(weights, alignment, strict=True)]
        used = ours.step_on_gradients(gram_KK, unbiased_KK if kind == "popo_split" else None)
        assert used == pytest.approx(alignment, rel=1e-12)
        hand = [w / sum(unnormalised) for w in unnormalised]
        assert ours.weights_K == pytest.approx(hand, rel=1e-9)
    assert abs(ours.weights_K - [0.2, 0.3, 0.5]).max() > 0.05


def test_light_takes_the_weights_of_its_step():
    # sigma / |mu|: .5 / .5 and 1 / 2, hence 2/3 and 1/3 (the epsilon is too small to see).
    light = rule(("a", "b"), rule="popo_light", light_epsilon=1e-12)
    light.step_on_rewards(np.array([[[0.0, 1.0], [1.0, 3.0]]]))
    assert light.weights_K == pytest.approx([2 / 3, 1 / 3])
    light.step_on_rewards(np.full((2, 4, 2), 0.3))  # no spread: nothing is known
    assert light.weights_K == pytest.approx([2 / 3, 1 / 3])


def test_the_epsilon_of_light_counts():
    # .5 / (.5 + .5) : 1 / (2 + .5) = .5 : .4
    light = rule(("a", "b"), rule="popo_light", light_epsilon=0.5)
    light.step_on_rewards(np.array([[[0.0, 1.0], [1.0, 3.0]]]))
    assert light.weights_K == pytest.approx([5 / 9, 4 / 9])


def test_light_leaves_out_what_does_not_apply():
    light = rule(("a", "b"), rule="popo_light")
    rewards = np.array([[[0.0, np.nan], [1.0, 3.0], [0.5, 3.0]]])
    light.step_on_rewards(rewards, ~np.isnan(rewards))
    assert light.weights_K.tolist() == [1, 0]
    assert light.log_weights_K.tolist() == [0, -math.inf]


# -- Rewards that are absent in a step ---------------------------------------------------------

PRESENT = np.array([True, False, True])


def test_an_absent_reward_keeps_its_weight_and_the_others_move_by_hand():
    # a and c hold .7 together: I = (5, 3), so .7 times .2 e^.5 : .5 e^.3 = .32974 : .67493.
    some = rule(initial=[0.2, 0.3, 0.5])
    gram_KK = np.array([[4.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 2.0]])
    used_K = some.step_on_gradients(gram_KK, present_K=PRESENT)
    assert used_K[[0, 2]].tolist() == [5, 3]
    assert np.isnan(used_K[1])
    want = [0.7 * 0.329744 / 1.004674, 0.3, 0.7 * 0.674929 / 1.004674]
    assert some.weights_K == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"normalise": "trace", "max_log_step": 1.0, "floor": 0.02, "leak": 0.1},
        {"smoothing": 0.5},
        {"rule": "popo_split"},
        {"rule": "mgda", "floor": 0.1, "smoothing": 0.5},
        {"rule": "popo_light"},
    ],
)
def test_absent_for_a_hundred_steps_a_reward_loses_nothing(settings):
    pytest.importorskip("torchjd")
    some = rule(initial=[0.2, 0.3, 0.5], **settings)
    for n, gram_KK in enumerate(random_grams(100)):
        gram_KK[1, :] = gram_KK[:, 1] = 0.0
        if "light" in some.settings.rule:
            rewards = np.random.default_rng(n).normal(size=(2, 4, 3))
            rewards[..., 1] = np.nan
            some.step_on_rewards(rewards, ~np.isnan(rewards))
        else:
            some.step_on_gradients(gram_KK, gram_KK, PRESENT)
    assert some.weights_K[1] == pytest.approx(0.3, abs=1e-12)
    assert some.weights_K.sum() == pytest.approx(1, abs=1e-12)
    assert abs(some.weights_K[0] - 0.2) > 1e-3
    assert some.weights_K.min() >= some.settings.floor * (1 - 1e-9)


def test_where_but_one_reward_is_present_nothing_moves():
    alone = np.array([True, False, False])
    for settings in ({}, {"leak": 0.5, "smoothing": 0.5}):
        some = rule(initial=[0.2, 0.3, 0.5], **settings)
        some.step_on_gradients(random_grams(1)[0])
        before_K = some.weights_K
        some.step_on_gradients(np.diag([9.0, 0.0, 0.0]), present_K=alone)
        assert some.weights_K.tolist() == before_K.tolist()


def test_what_was_learnt_while_a_reward_was_away_is_not_lost_when_it_returns():
    # All present again: Eq. 5 goes on from the weights that stood, absent ones included.
    some, hand = rule(initial=[0.2, 0.3, 0.5]), np.array([0.2, 0.3, 0.5])
    some.step_on_gradients(np.diag([2.0, 0.0, 1.0]), present_K=PRESENT)
    hand[[0, 2]] *= np.exp([0.2, 0.1])
    hand[[0, 2]] *= 0.7 / hand[[0, 2]].sum()
    some.step_on_gradients(np.diag([1.0, 3.0, 2.0]))
    hand *= np.exp([0.1, 0.3, 0.2])
    assert some.weights_K == pytest.approx(hand / hand.sum())


def test_mgda_by_hand():
    # Orthogonal gradients of squared length 4 and 1: the least norm is at weights 1/4 : 1.
    pytest.importorskip("torchjd")
    mgda = rule(("a", "b"), rule="mgda")
    assert mgda.step_on_gradients(np.diag([4.0, 1.0])).tolist() == [4, 1]
    assert mgda.weights_K == pytest.approx([0.2, 0.8])


def test_cagrad_by_hand():
    # g_1 = (1, 0), g_2 = (0, 1): by symmetry uniform, and c does not matter.
    # g_2 = (-1, 0) / 2 against g_1 = (1, 0): the mean is (.25, 0), the worst-off is reward 2. The
    # ball of radius c |mean| around the mean is (.25 - .4 * .25, 0) at its best for reward 2,
    # and that point is 1/2 g_1 + 1/2 g_2 + .1 * 2 g_2, weights .5 : .7.
    pytest.importorskip("cvxpy")
    even = rule(("a", "b"), rule="cagrad")
    even.step_on_gradients(np.eye(2))
    assert even.weights_K == pytest.approx([0.5, 0.5], abs=1e-6)
    against = np.array([[1.0, -0.5], [-0.5, 0.25]])
    uneven = rule(("a", "b"), rule="cagrad", cagrad_c=0.4)
    uneven.step_on_gradients(against)
    assert uneven.weights_K == pytest.approx([0.5 / 1.2, 0.7 / 1.2], abs=1e-3)
    wider = rule(("a", "b"), rule="cagrad", cagrad_c=0.8)
    wider.step_on_gradients(against)
    assert wider.weights_K[1] > uneven.weights_K[1]


@pytest.mark.parametrize("kind", ["mgda", "cagrad"])
def test_torchjd_does_not_mind_small_gradients(kind):
    pytest.importorskip("cvxpy")
    (gram_KK,) = random_grams(1)
    assert step(rule(rule=kind), gram_KK * 1e-12) == pytest.approx(
        step(rule(rule=kind), gram_KK), abs=1e-6
    )


# -- Properties --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_rewards", [1, 2, 4])
def test_weights_of_any_rule_stay_on_the_simplex(kind, num_rewards):
    pytest.importorskip("cvxpy")
    any_rule = rule([f"r{k}" for k in range(num_rewards)], rule=kind, eta=5.0)
    for gram_KK in random_grams(10, num_rewards):
        weights_K = step(any_rule, gram_KK)
        assert (weights_K >= 0).all()
        assert weights_K.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_rewards_does_not_matter(kind):
    pytest.importorskip("cvxpy")
    order = [2, 0, 1]
    plain = rule(rule=kind, initial=[0.2, 0.3, 0.5])
    turned = rule(rule=kind, initial=[0.5, 0.2, 0.3])
    for gram_KK in random_grams(5):
        if kind == "popo_light":
            plain.step_on_rewards(gram_KK[None])
            turned.step_on_rewards(gram_KK[None][..., order])
        else:
            step(plain, gram_KK)
            step(turned, gram_KK[np.ix_(order, order)])
    assert turned.weights_K == pytest.approx(plain.weights_K[order], abs=1e-5)


@pytest.mark.parametrize("settings", [{}, STABLE, {"smoothing": 0.7, "max_log_step": 0.1}])
def test_a_common_shift_of_i_never_matters(settings):
    plain, shifted = rule(rule="popo_split", **settings), rule(rule="popo_split", **settings)
    for n, gram_KK in enumerate(random_grams(20)):
        plain.step_on_gradients(gram_KK, gram_KK)
        shifted.step_on_gradients(gram_KK, gram_KK + n)
    assert shifted.weights_K == pytest.approx(plain.weights_K, abs=1e-9)


@given(gradients, st.floats(1e-6, 1e6))
def test_under_trace_normalisation_the_scale_does_not_matter(gradients_KD, scale):
    names = [f"r{k}" for k in range(len(gradients_KD))]
    gram_KK = gradients_KD @ gradients_KD.T
    plain, scaled = (rule(names, normalise="trace", eta=1.0) for _ in range(2))
    used = plain.step_on_gradients(gram_KK)
    scaled.step_on_gradients(gram_KK * scale)
    assert scaled.weights_K == pytest.approx(plain.weights_K, abs=1e-9)
    assert np.abs(used).max() <= math.sqrt(len(names)) + 1e-9


@given(gradients, st.floats(1e-3, 2), st.floats(1e-3, 1e3))
def test_no_log_weight_moves_further_than_the_cap(gradients_KD, cap, eta):
    names = [f"r{k}" for k in range(len(gradients_KD))]
    capped = rule(names, eta=eta, max_log_step=cap)
    before_K = capped.log_weights_K
    capped.step_on_gradients(gradients_KD @ gradients_KD.T)
    moved_K = capped.log_weights_K - before_K
    assert np.abs(moved_K).max() <= cap + 1e-9
    assert np.ptp(moved_K) <= cap + 1e-9


# -- What must not surprise --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["popo", "popo_split", "mgda"])
def test_where_all_gradients_vanish_nothing_moves(kind):
    pytest.importorskip("torchjd")
    (gram_KK,) = random_grams(1)
    still = rule(rule=kind, leak=0.1 if "popo" in kind else 0.0, smoothing=0.5)
    step(still, gram_KK)
    before = {**still.state_dict(), "num_still": None}
    assert step(still, np.zeros((3, 3))) is not None
    assert {**still.state_dict(), "num_still": None} == before


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_broken_gradient_is_named_and_poisons_nothing(bad):
    broken = rule(smoothing=0.5)
    broken.step_on_gradients(np.eye(3))
    before = broken.state_dict()
    gram_KK = np.eye(3)
    gram_KK[1, :] = gram_KK[:, 1] = bad
    with pytest.raises(DivergenceError, match="gradient of b: "):
        broken.step_on_gradients(gram_KK)
    split = rule(rule="popo_split")
    with pytest.raises(DivergenceError, match="gradient of b: "):
        split.step_on_gradients(np.eye(3), gram_KK)
    assert broken.state_dict() == before


def test_fixed_weights_are_kept_as_given():
    assert rule(rule="fixed", initial=[1.0, 0.0, 3.0], floor=0.1).weights_K.tolist() == [
        0.25,
        0,
        0.75,
    ]


def test_initial_weights_stay_at_hand_for_what_must_be_comparable():
    moved = rule(initial=[2.0, 1.0, 1.0], eta=5.0)
    step(moved, random_grams(1)[0])
    assert moved.initial_weights_K == pytest.approx([0.5, 0.25, 0.25])
    assert abs(moved.weights_K - moved.initial_weights_K).max() > 0.1


@pytest.mark.parametrize(
    ("names", "initial", "settings", "message"),
    [
        ((), None, {}, "no reward"),
        (NAMES, [1.0, 1.0], {}, "2 for 3"),
        (NAMES, [1.0, 0.0, 1.0], {}, "leave the reward out"),
        (NAMES, [1.0, -1.0, 1.0], {"rule": "fixed"}, "change the sign"),
        (NAMES, [0.0, 0.0, 0.0], {"rule": "fixed"}, "above 0"),
        (NAMES, [math.nan, 1.0, 1.0], {}, "finite"),
        (NAMES, None, {"floor": 0.34}, "below 1 / 3"),
        (NAMES, None, {"floor": 1 / 3}, "below 1 / 3"),
        (NAMES, [0.01, 0.5, 0.49], {"floor": 0.02}, "smallest initial weight"),
    ],
)
def test_weights_that_cannot_work_are_refused(names, initial, settings, message):
    with pytest.raises(ConfigError, match=message):
        rule(names, initial, **settings)


def test_where_all_weight_lies_with_an_absent_reward_nothing_moves():
    some = rule(eta=1.0)
    strong = np.diag([900.0, 1.0, 1.0])
    some.step_on_gradients(strong)
    some.step_on_gradients(strong)
    before_K = some.weights_K
    assert before_K.tolist() == [1, 0, 0]
    some.step_on_gradients(strong, present_K=np.array([False, True, True]))
    assert some.weights_K.tolist() == before_K.tolist()
