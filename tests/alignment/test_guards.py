import logging
import math

import pytest
from toy import share_of_a, steps

from taiji.alignment import PopoConfig
from taiji.errors import ConfigError, DivergenceError, EngineError

# TRL 1.16 asks transformers 5.23 for a property by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def test_a_flat_reward_moves_nothing_and_is_called_inert(make_trainer, caplog):
    def flat(completions, **_):
        return [0.5] * len(completions)

    def also_flat(completions, **_):
        return [0.1] * len(completions)

    trainer = make_trainer(rewards=[flat, also_flat], max_steps=20, max_completion_length=2)
    with caplog.at_level(logging.WARNING, logger="taiji"):
        trainer.train()
    assert trainer.weights == {"flat": 0.5, "also_flat": 0.5}
    assert steps(trainer)[0]["rewards/flat/frac_zero_std"] == 1
    assert sum("have not moved" in record.message for record in caplog.records) == 1


def test_one_reward_is_called_inert_at_once(make_trainer, caplog):
    with caplog.at_level(logging.WARNING, logger="taiji"):
        make_trainer(rewards=[share_of_a], rule="popo_light")
    assert "always 1" in caplog.text


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_stops_the_run(make_trainer, bad):
    def broken(completions, trainer_state, **_):
        return [bad if trainer_state.global_step == 1 else 0.5] * len(completions)

    with pytest.raises(DivergenceError, match="step 2: reward broken"):
        make_trainer(rewards=[broken]).train()


def test_other_advantages_than_trls_are_refused(make_trainer, monkeypatch):
    trainer = make_trainer()
    monkeypatch.setattr("taiji.alignment.advantages._EPSILON", 1e-2)
    with pytest.raises(EngineError, match="install the release"):
        trainer.train()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "best"}, "choose one of"),
        ({"eta": 0.0}, "eta"),
        ({"mu": math.inf}, "mu"),
        ({"reward_weights": [1.0, 0.0]}, "never recover"),
        (
            {
                "activation_checkpointing": True,
                "activation_checkpointing_kwargs": {"use_reentrant": True},
            },
            "use_reentrant",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        PopoConfig(output_dir=str(tmp_path), use_cpu=True, report_to="none", **settings)


def test_on_a_cpu_precision_and_checkpointing_stay_off(tmp_path):
    config = PopoConfig(output_dir=str(tmp_path), use_cpu=True)
    assert not config.bf16
    assert not config.activation_checkpointing


def test_two_rewards_of_one_name_are_refused(make_trainer):
    with pytest.raises(ConfigError, match="must differ"):
        make_trainer(rewards=[share_of_a, share_of_a])
