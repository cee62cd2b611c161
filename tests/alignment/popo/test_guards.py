import asyncio
import logging
import math

import numpy as np
import pytest
import torch
from toy import share_of_a, steps

from taiji.alignment import PopoConfig
from taiji.alignment.popo.guards import guarded
from taiji.errors import ConfigError, DataError, DivergenceError, EngineError

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

    with pytest.raises(DivergenceError, match="step 2: reward broken: rollout 0 of row 0 got"):
        make_trainer(rewards=[broken]).train()


class State:
    global_step = 6


def ask(reward, **columns):
    """Call a guarded reward as TRL would, for two rollouts."""
    asked = {"prompts": ["first", "second"], "completions": ["a", "b"], "trainer_state": State}
    return guarded(reward, "mine")(**{**asked, **columns})


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([0.5], EngineError, "returned 1 values for 2 completions: the first prompt was row 0"),
        ([0.5, math.nan], DivergenceError, r"rollout 1 of row 1 \('second'\) got nan"),
        ([0.5, "good"], EngineError, "'good' for rollout 1 of row 1.*no number"),
        (0.5, EngineError, "returned a float"),
        ("ab", EngineError, "returned a str"),
        (None, EngineError, "returned a NoneType"),
    ],
)
def test_a_wrong_reward_is_named_with_step_and_prompt(values, error, message):
    with pytest.raises(error, match=f"step 7: reward mine: .*{message}"):
        ask(lambda **_: values)


@pytest.mark.parametrize("values", [[1, None], np.array([0.5, 1]), torch.tensor([0.5, 1.0])])
def test_numbers_of_any_kind_and_none_pass(values):
    assert len(ask(lambda **_: values)) == 2


def test_an_exception_inside_a_reward_is_chained():
    def broken(**_):
        raise KeyError("price")

    with pytest.raises(
        EngineError, match="step 7: reward mine: raised KeyError: 'price'"
    ) as caught:
        ask(broken)
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_error_of_ours_keeps_its_class_and_memory_is_nobodys_fault():
    def ours(**_):
        raise DataError("scores: no such item")

    def full(**_):
        raise MemoryError

    with pytest.raises(DataError, match="step 7: reward mine: scores: no such item"):
        ask(ours)
    with pytest.raises(MemoryError):
        ask(full)


def test_of_a_prompt_no_more_than_a_line_is_shown_and_the_example_if_there_is_one():
    prompt = "Jane Doe,\n\x1b[31m" + "of 12 Long Street, " * 20
    with pytest.raises(EngineError) as caught:
        ask(lambda **_: [], prompts=[prompt] * 2, example_id=["e1", "e2"])
    message = str(caught.value)
    assert "example e1 ('Jane Doe, ?[31mof" in message
    assert len(message) < 200
    chat = [[{"role": "user", "content": "Hello"}]] * 2
    with pytest.raises(EngineError, match=r"row 0 \('Hello'\)"):
        ask(lambda **_: [], prompts=chat)
    with pytest.raises(EngineError, match=r"was example e1$"):
        ask(lambda **_: [], prompts=[[5, 6]] * 2, example_id=["e1", "e2"])


def test_asynchronous_rewards_are_guarded_alike():
    async def late(**_):
        raise ValueError("too late")

    with pytest.raises(EngineError, match="raised ValueError: too late"):
        asyncio.run(ask(late))


def test_other_advantages_than_trls_are_refused(make_trainer, monkeypatch):
    trainer = make_trainer()
    monkeypatch.setattr("taiji.alignment.popo.advantages._EPSILON", 1e-2)
    with pytest.raises(EngineError, match="install the release"):
        trainer.train()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "best"}, "rule: 'best': Input should be"),
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
