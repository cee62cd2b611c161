import math

import pytest

from taiji.alignment.popo.rule_settings import RuleSettings
from taiji.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "best"}, "rule: 'best': choose one of popo, popo_split"),
        ({"normalise": "norm"}, "choose one of none, trace"),
        ({"eta": 0.0}, "eta"),
        ({"mu": math.inf}, "mu"),
        ({"light_epsilon": -1.0}, "light_epsilon"),
        ({"cagrad_c": 0.0}, "cagrad_c"),
        ({"max_log_step": 0.0}, "max_log_step"),
        ({"floor": 1.0}, "floor"),
        ({"floor": math.nan}, "floor"),
        ({"smoothing": 1.0}, "smoothing"),
        ({"leak": 1.1}, "leak"),
        ({"every": 0}, "every"),
        ({"warmup_steps": -1}, "warmup_steps"),
    ],
)
def test_a_value_out_of_range_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        RuleSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "unused"),
    [
        ({"kind": "popo", "eta": 1.0, "leak": 0.1, "floor": 0.1}, []),
        ({"kind": "popo", "cagrad_c": 0.5, "light_epsilon": 0.1}, ["light_epsilon", "cagrad_c"]),
        ({"kind": "popo_light", "eta": 1.0, "floor": 0.1}, ["eta"]),
        ({"kind": "mgda", "normalise": "trace", "smoothing": 0.5}, ["normalise"]),
        ({"kind": "fixed", "floor": 0.1, "every": 2}, ["floor", "every"]),
    ],
)
def test_settings_without_effect_are_known(settings, unused):
    assert RuleSettings(**settings).unused() == unused
