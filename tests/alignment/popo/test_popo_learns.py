import numpy as np
import pytest
from toy import A, share_of_a, steps

from taiji.alignment.popo import weights

# TRL 1.16 asks transformers 5.23 for a property by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def many_a(completions, **_):
    """Works against share_of_a, but only in the rare group where some rollout has three."""
    return [-1.0 if text.count("a") >= 3 else 0.0 for text in completions]


def final_share_of_a(make_trainer):
    trainer = make_trainer(eta=30.0, learning_rate=2e-2, max_steps=40, lr_scheduler_type="constant")
    trainer.train()
    return np.mean([row[f"rewards/{A}/mean"] for row in steps(trainer)[-5:]])


def test_two_rewards_are_learnt_and_the_sign_of_the_rule_matters(make_trainer, monkeypatch):
    def make(**settings):
        return make_trainer(rewards=[share_of_a, many_a], **settings)

    assert final_share_of_a(make) > 0.6
    follow = weights.popo_weights
    monkeypatch.setattr(
        weights, "popo_weights", lambda w, i, step_size: follow(w, -i, step_size=step_size)
    )
    assert final_share_of_a(make) < 0.4
