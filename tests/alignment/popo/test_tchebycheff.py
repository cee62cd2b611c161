"""The rule that goes where it is asked: `tchebycheff`, with what it remembers."""

import json
import math

import numpy as np
import pytest
from rule_toy import rule

from taiji.errors import ConfigError, DataError

BOTH = {"ideal": {"a": 1.0, "b": 1.0}, "worst": {"a": 0.0, "b": 0.0}}


def asking(initial=(0.5, 0.5), **settings):
    return rule(("a", "b"), np.array(initial), rule="tchebycheff", **settings)


def step(one, *means):
    """A group of two rollouts around each mean."""
    one.step_on_rewards(np.array([[means, means]]) + np.array([[[0.01], [-0.01]]]))
    return one.weights_K


def test_two_steps_by_hand_with_smoothing():
    # mu .5. Means (.2, .6): .5 * gap / 1 / .5 = (.8, .4): e^.8 : e^.4 = .598688 : .401312.
    # Then (.8, .6) at smoothing .5: mean a = (.2 * .5 + .8) / 1.5 = .6, both gaps are .4.
    one = asking(tchebycheff_mu=0.5, smoothing=0.5, **BOTH)
    assert step(one, 0.2, 0.6) == pytest.approx([0.598688, 0.401312], abs=1e-6)
    assert one.gaps() == pytest.approx({"popo/gap_a": 0.4, "popo/gap_b": 0.2})
    assert step(one, 0.8, 0.6) == pytest.approx([0.5, 0.5])


def test_what_is_asked_for_more_is_left_less_behind():
    # Where lambda (.2, .8) is met the gaps are as 4 : 1, and the weights lambda itself.
    one = asking((0.2, 0.8), **BOTH)
    assert step(one, 0.2, 0.8) == pytest.approx([0.2, 0.8])
    assert step(one, 0.2, 0.9)[0] > 0.2
    assert step(one, 0.3, 0.8)[0] < 0.2


def test_without_an_ideal_the_best_and_the_worst_mean_seen_take_its_place():
    # Rollouts lie .01 around the mean: that is the first range, and nothing is missing yet.
    one = asking((0.2, 0.8), tchebycheff_mu=0.5)
    assert step(one, 0.2, 3.0) == pytest.approx([0.2, 0.8])
    assert one.gaps() == pytest.approx({"popo/gap_a": 0, "popo/gap_b": 0})
    # a rose from .2 to .4, b fell from 3 to 2: ranges .2 and 1, gaps 0 and 1.
    want = np.array([0.2 / 0.2, 0.8 * math.exp(0.8 / 0.5)])
    assert step(one, 0.4, 2.0) == pytest.approx(want / want.sum())
    assert one.gaps() == pytest.approx({"popo/gap_a": 0, "popo/gap_b": 0.8})


def test_a_mean_that_moves_less_than_rollouts_differ_makes_no_range():
    # b fell by .004 of a deviation of .01: gap .4 of its range, and not all of it.
    one = asking(tchebycheff_mu=0.5)
    for means in ((0.2, 3.0), (0.2, 2.996)):
        step(one, *means)
    assert one.gaps()["popo/gap_b"] == pytest.approx(0.5 * 0.4)


def test_a_reward_that_never_differs_keeps_its_weight():
    three = rule(("a", "b", "c"), np.array([0.3, 0.3, 0.4]), rule="tchebycheff")
    for a, b in ((0.1, 0.9), (0.4, 0.2), (0.3, 0.5)):
        rewards = np.array([[[a, b, 0.7], [a + 0.02, b + 0.02, 0.7]]])
        three.step_on_rewards(rewards)
    assert three.weights_K[2] == pytest.approx(0.4)
    assert abs(three.weights_K[0] - 0.3) > 0.01


def test_an_absent_reward_keeps_its_weight_and_its_mean():
    three = rule(("a", "b", "c"), rule="tchebycheff", ideal={"a": 1.0, "b": 1.0, "c": 1.0})
    step(three, 0.1, 0.5, 0.5)
    step(three, 0.2, 0.4, 0.6)
    before_K = three.weights_K
    rewards = np.array([[[0.3, 0.6, np.nan], [0.2, 0.7, np.nan]]])
    three.step_on_rewards(rewards, ~np.isnan(rewards))
    assert three.weights_K[2] == pytest.approx(before_K[2])
    assert "popo/gap_c" not in three.gaps()


def test_the_floor_holds():
    assert step(asking(floor=0.1, **BOTH), 0.0, 0.9) == pytest.approx([0.9, 0.1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ideal": {"c": 1.0}}, "ideal: c: no such reward: there are a, b"),
        ({"worst": {"c": 1.0}}, "worst: c: no such reward"),
        ({"ideal": {"a": 0.5}, "worst": {"a": 0.5}}, "worst: a: must be below the ideal"),
    ],
)
def test_extremes_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        asking(**settings)


def test_a_resumed_rule_knows_what_it_had_seen():
    straight, resumed = asking(smoothing=0.5), asking(smoothing=0.5)
    for means in ((0.1, 0.9), (0.6, 0.2)):
        step(straight, *means)
    resumed.load_state_dict(json.loads(json.dumps(straight.state_dict(), allow_nan=False)))
    for one in (straight, resumed):
        step(one, 0.3, 0.5)
    assert resumed.state_dict() == straight.state_dict()
    assert resumed.gaps() == straight.gaps()


@pytest.mark.parametrize("seen", [{}, {"best": [1.0], "worst": [0.0]}, {"best": "ab", "worst": 1}])
def test_a_damaged_memory_is_refused(seen):
    with pytest.raises(DataError, match="damaged"):
        asking().load_state_dict({**asking().state_dict(), "seen": seen})


@pytest.mark.parametrize(
    ("settings", "means", "reason"),
    [
        ({}, (0.5, 0.5), "the same at every step"),
        ({"tchebycheff_mu": 1e-3, **BOTH}, (0.1, 0.9), "a has all the weight: set a floor, or"),
        (BOTH, (0.4, 0.5), "the same at every step"),
    ],
)
def test_standing_still_has_a_reason(settings, means, reason):
    one, said = asking(**settings), []
    for _ in range(30):
        step(one, *means)
        said.append(one.inert_warning())
    (warning,) = filter(None, said)
    assert reason in warning


def test_rewards_without_any_spread_are_reported():
    one = asking()
    for _ in range(20):
        assert one.inert_warning() is None
        one.step_on_rewards(np.full((2, 4, 2), 0.3))
    assert "have any spread: give ideal and worst" in one.inert_warning()
