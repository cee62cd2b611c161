import math
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

import taiji
from taiji.alignment import PopoConfig
from taiji.config import WeightsSection
from taiji.errors import ConfigError
from taiji.rule_settings import RuleKind, RuleSettings, argument, described
from taiji.training.trainer_arguments import check_trainer_arguments

POPO_MD = Path(taiji.__file__).parents[2] / "docs" / "popo.md"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "best"}, "rule: 'best': Input should be 'popo', 'popo_split'"),
        ({"normalise": "norm"}, "normalise: 'norm': Input should be 'none' or 'trace'"),
        ({"eta": 0.0}, "eta"),
        ({"mu": math.inf}, "mu"),
        ({"light_epsilon": -1.0}, "light_epsilon"),
        ({"cagrad_c": 0.0}, "cagrad_c"),
        ({"tchebycheff_mu": 0.0}, "tchebycheff_mu"),
        ({"ideal": {"a": math.inf}}, "ideal"),
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
        ({"rule": "popo", "eta": 1.0, "leak": 0.1, "floor": 0.1}, []),
        ({"rule": "popo", "cagrad_c": 0.5, "light_epsilon": 0.1}, ["light_epsilon", "cagrad_c"]),
        ({"rule": "popo_light", "eta": 1.0, "floor": 0.1}, ["eta"]),
        ({"rule": "tchebycheff", "tchebycheff_mu": 0.1, "smoothing": 0.8}, []),
        ({"rule": "popo", "ideal": {"a": 1.0}, "tchebycheff_mu": 0.1}, ["tchebycheff_mu", "ideal"]),
        ({"rule": "mgda", "normalise": "trace", "smoothing": 0.5}, ["normalise"]),
        ({"rule": "fixed", "floor": 0.1, "every": 2}, ["floor", "every"]),
    ],
)
def test_settings_without_effect_are_known(settings, unused):
    assert RuleSettings(**settings).unused() == unused


OTHERS = {
    "rule": "popo_split", "eta": 0.3, "mu": 2.0, "light_epsilon": 0.01, "cagrad_c": 0.7,
    "normalise": "trace", "max_log_step": 0.7, "floor": 0.01, "smoothing": 0.9, "leak": 0.05,
    "every": 3, "warmup_steps": 4, "tchebycheff_mu": 0.1, "ideal": {"a": 1.0}, "worst": {"a": 0.0},
}  # fmt: skip


def test_every_option_is_a_setting_of_the_recipe_and_of_popo_config_by_itself(tmp_path):
    own = {field.name: field for field in fields(RuleSettings)}
    assert OTHERS.keys() == own.keys(), "name another value than the default for the new option"
    assert not [name for name, value in OTHERS.items() if value == own[name].default]
    section = WeightsSection(**OTHERS)
    assert WeightsSection.model_fields.keys() == {*own, "initial", "act_on"}
    assert section.arguments().keys() == {argument(name) for name in own}
    config = PopoConfig(output_dir=str(tmp_path), use_cpu=True, **section.arguments())
    assert config.rule_settings() == RuleSettings(**OTHERS)
    assert PopoConfig(output_dir=str(tmp_path), use_cpu=True).rule_settings() == RuleSettings()
    assert config.warmup_steps == 0, "the learning rate's own warm-up is another setting"
    helped = {field.name: field.metadata.get("help") for field in fields(PopoConfig)}
    for name, text in described().items():
        assert helped[argument(name)] == WeightsSection.model_fields[name].description == text


@pytest.mark.parametrize("name", OTHERS)
def test_every_option_has_one_range_wherever_it_is_set(name):
    wrong = {"rule": "best", "normalise": "norm"}.get(name, -1)
    with pytest.raises(ConfigError, match=name):
        RuleSettings(**{name: wrong})
    with pytest.raises(ValidationError, match=name):
        WeightsSection(**{name: wrong})
    with pytest.raises(ConfigError, match=rf"align\.weights\.{name}"):
        check_trainer_arguments(PopoConfig, {argument(name): OTHERS[name]}, "align.trainer")


def test_every_option_and_every_rule_is_in_the_documentation():
    text = POPO_MD.read_text(encoding="utf-8")
    assert [f.name for f in fields(RuleSettings) if f"`{f.name}" not in text] == []
    assert [f.name for f in fields(RuleSettings) if f"`{argument(f.name)}" not in text] == []
    assert [rule for rule in get_args(RuleKind) if f"| `{rule}` |" not in text] == []
