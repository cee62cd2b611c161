import json
import math

import numpy as np
import pytest
from rule_toy import KINDS, random_grams, rule, step

from taiji.errors import ConfigError, DataError


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_rule_goes_on_bit_for_bit(kind):
    pytest.importorskip("cvxpy")
    settings = {"rule": kind, "smoothing": 0.9, "floor": 0.01, "leak": 0.01 * (kind == "popo")}
    straight, resumed = rule(**settings), rule(**settings)
    grams = random_grams(12)
    for gram_KK in grams[:5]:
        step(straight, gram_KK)
    resumed.load_state_dict(json.loads(json.dumps(straight.state_dict(), allow_nan=False)))
    for gram_KK in grams[5:]:
        step(straight, gram_KK)
        step(resumed, gram_KK)
    assert resumed.state_dict() == straight.state_dict()


def test_a_weight_of_zero_survives_the_checkpoint():
    light, other = (rule(("a", "b"), rule="popo_light") for _ in range(2))
    light.step_on_rewards(np.array([[[0.0, 1.0], [1.0, 1.0]]]))
    other.load_state_dict(json.loads(json.dumps(light.state_dict(), allow_nan=False)))
    assert other.weights_K.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"rule": "popo_light"}, ConfigError),
        ({"rewards": ["a", "c", "b"]}, ConfigError),
        ({"log_weights": [0.0]}, DataError),
        ({"log_weights": "abc"}, DataError),
        ({"log_weights": [math.nan] * 3}, DataError),
        ({"log_weights": [0.0, 0.0, 0.0]}, DataError),
        ({"mean": [1.0, math.nan, 1.0]}, DataError),
        ({"mean": 3}, DataError),
        ({"num_seen": None}, DataError),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change, error):
    fresh = rule()
    with pytest.raises(error, match="resume"):
        fresh.load_state_dict({**rule().state_dict(), **change})
    with pytest.raises(DataError):
        fresh.load_state_dict({})
    assert fresh.state_dict() == rule().state_dict()


def test_the_gaps_of_a_trade_off_are_told_after_a_resume_too():
    straight, resumed = (rule(("a", "b"), rule="tchebycheff") for _ in range(2))
    for high in (0.5, 1.0):
        straight.step_on_rewards(np.array([[[0.0, 1.0], [high, 0.0]]]))
    assert straight.gaps()
    resumed.load_state_dict(json.loads(json.dumps(straight.state_dict(), allow_nan=False)))
    assert resumed.gaps() == straight.gaps()
