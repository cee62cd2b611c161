import logging
import re
from io import StringIO
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import taiji
from taiji.alignment import PopoConfig
from taiji.alignment.policy import PolicyRun, policy_config
from taiji.config import AlignSection
from taiji.errors import ConfigError
from taiji.rule_settings import RuleSettings

ADVANTAGES = {"multi_objective_aggregation": "normalize_then_sum"}
POPO_MD = Path(taiji.__file__).parents[2] / "docs" / "popo.md"


@pytest.fixture
def config(tmp_path):
    def make(**settings):
        return PopoConfig(output_dir=str(tmp_path), use_cpu=True, report_to="none", **settings)

    return make


def test_without_settings_the_rule_is_the_papers(config):
    assert config().rule_settings() == RuleSettings()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "best"}, "rule: 'best': Input should be"),
        ({"weight_normalise": "norm"}, "'none' or 'trace'"),
        ({"weight_floor": -0.1}, "floor"),
        ({"weight_smoothing": 1.0}, "smoothing"),
        ({"weight_every": 0}, "every"),
        ({"reward_weights": [1.0, 0.0]}, "never recover"),
        ({"weight_warmup_steps": 5, "max_steps": 5}, "never move in 5 steps"),
        (
            {
                "rule": "mgda",
                "activation_checkpointing": True,
                "activation_checkpointing_kwargs": {"use_reentrant": True},
            },
            "use_reentrant",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(config, settings, message):
    with pytest.raises(ConfigError, match=message):
        config(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "popo_light", "eta": 1.0}, "rule popo_light: without effect: eta"),
        ({"rule": "fixed", "weight_floor": 0.1}, "rule fixed: without effect: floor"),
        ({"rule": "mgda"}, "meant for gradients, but mix rewards"),
        ({"scale_rewards": "none", **ADVANTAGES}, "scale_rewards=none: without effect"),
    ],
)
def test_settings_without_effect_are_reported(config, caplog, settings, message):
    with caplog.at_level(logging.WARNING, logger="taiji"):
        config(**settings)
    assert message in caplog.text


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rule": "fixed", **ADVANTAGES},
        {"rule": "cagrad", **ADVANTAGES},
        {"rule": "fixed", "weight_warmup_steps": 0, "max_steps": 1, "reward_weights": [1.0, 0.0]},
        {"weight_warmup_steps": 4, "max_steps": 5},
    ],
)
def test_settings_that_work_are_not_talked_about(config, caplog, settings):
    with caplog.at_level(logging.WARNING, logger="taiji"):
        config(**settings)
    assert not caplog.records


def test_the_rule_alone_runs_as_documented(capsys):
    blocks = re.findall(r"```python\n(.*?)```", POPO_MD.read_text(encoding="utf-8"), re.DOTALL)
    code = next(block for block in blocks if "WeightRule(" in block)
    exec(compile(code, "popo.md", "exec"), {})
    assert capsys.readouterr().out.strip() == code.rpartition("# ")[2].strip()


def test_the_presets_of_the_documentation_work_and_leave_nothing_unused(tmp_path, caplog):
    blocks = re.findall(r"```yaml\n(.*?)```", POPO_MD.read_text(encoding="utf-8"), re.DOTALL)
    presets = [YAML(typ="safe").load(StringIO(block)) for block in blocks]
    assert len(presets) >= 4
    for preset in presets:
        section = AlignSection.model_validate(preset["align"])
        with caplog.at_level(logging.WARNING, logger="taiji"):
            policy_config(PolicyRun(section, 64, 17, tmp_path))
    assert not caplog.records
