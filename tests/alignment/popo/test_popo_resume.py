import pytest
import torch
from toy import steps

from taiji.errors import ConfigError

# TRL 1.16 asks transformers 5.23 for a property by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


SETTINGS = {"eta": 5.0, "learning_rate": 1e-2, "max_steps": 5, "weight_smoothing": 0.5}


@pytest.mark.parametrize("rule", ["popo_split", "popo_light"])
def test_a_run_killed_after_any_step_ends_as_one_that_was_not(make_trainer, tmp_path, rule):
    straight = make_trainer(rule=rule, **SETTINGS, save_strategy="steps", save_steps=1)
    straight.train()
    for killed_after in range(1, 5):  # an epoch has three steps
        resumed = make_trainer(rule=rule, **SETTINGS)
        resumed.train(resume_from_checkpoint=str(tmp_path / "out" / f"checkpoint-{killed_after}"))
        assert resumed.rule.log_weights_K.tolist() == straight.rule.log_weights_K.tolist()
        for a, b in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
            assert torch.equal(a, b)
        last_a, last_b = steps(straight)[-1], steps(resumed)[-1]
        same = [name for name in last_a if "time" not in name and "seconds" not in name]
        assert {n: last_a[n] for n in same} == {n: last_b[n] for n in same}


def test_a_checkpoint_of_other_rewards_is_refused(make_trainer, tmp_path):
    make_trainer(max_steps=1, save_strategy="steps", save_steps=1).train()
    trainer = make_trainer(rule="popo_light")
    with pytest.raises(ConfigError, match="resume with the settings"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-1"))
