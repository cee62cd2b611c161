import numpy as np
import pytest
from rule_toy import random_grams, rule


def after(num, any_rule, gram_KK):
    said = []
    for _ in range(num):
        any_rule.step_on_gradients(gram_KK, gram_KK)
        said.append(any_rule.inert_warning())
    return [warning for warning in said if warning]


@pytest.mark.parametrize(
    ("settings", "gram", "reason"),
    [
        ({}, [[0.0, 0.0], [0.0, 0.0]], "no reward has any spread"),
        ({"normalise": "trace"}, [[1.0, 0.3], [0.3, 1.0]], "I is the same for all"),
        ({"eta": 1e-9}, [[2.0, 0.0], [0.0, 1.0]], "eta / mu = 1e-09 moves log w by no more"),
        ({"max_log_step": 1e-9}, [[2.0, 0.0], [0.0, 1.0]], "raise it or max_log_step"),
        ({"eta": 9.0}, [[2.0, 0.0], [0.0, 1.0]], "a has all the weight: set a floor"),
        ({"eta": 9.0, "floor": 0.1}, [[2.0, 0.0], [0.0, 1.0]], "all the weight that the floor"),
        ({"leak": 0.9}, [[2.0, 0.0], [0.0, 1.0]], "the leak of 0.9 balances"),
        ({"rule": "mgda"}, [[4.0, 0.0], [0.0, 1.0]], "the same at every step"),
    ],
)
def test_a_rule_that_stands_still_says_why_and_only_once(settings, gram, reason):
    pytest.importorskip("torchjd")
    (warning,) = after(60, rule(("a", "b"), **settings), np.array(gram))
    assert "have not moved" in warning
    assert reason in warning


def test_flat_rewards_are_reported_for_light_too():
    light = rule(("a", "b"), rule="popo_light")
    for _ in range(20):
        assert light.inert_warning() is None
        light.step_on_rewards(np.full((2, 4, 2), 0.3))
    assert "no reward has any spread" in light.inert_warning()


def test_one_reward_is_reported_at_once_and_moving_weights_never():
    assert "always 1" in rule(("a",)).inert_warning()
    assert rule(("a",), rule="fixed").inert_warning() is None
    moving = rule()
    for gram_KK in random_grams(50):
        moving.step_on_gradients(gram_KK)
        assert moving.inert_warning() is None


def test_a_pause_shorter_than_the_patience_is_no_standstill():
    pausing = rule(("a", "b"))
    for _ in range(5):
        assert not after(19, pausing, np.zeros((2, 2)))
        assert not after(1, pausing, np.diag([2.0, 1.0]))
