"""What may shape an update beside the rewards: where it enters, and what never sees it."""

import types

import numpy as np
import pytest
import torch
from toy import A, B, steps

from taiji.alignment.popo import state, update
from taiji.alignment.popo.reference import group_advantages
from taiji.errors import ConfigError, DataError, EngineError

# TRL 1.16 asks transformers 5.23 for a property by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


class PerLetter:
    """A bonus that anybody can read off the rollout: so much for each token."""

    def __init__(self, worth=0.25):
        self.worth, self.mixed = worth, []

    def __call__(self, tokens, mixed_PG, step):
        self.mixed.append(mixed_PG)
        return self.worth * tokens["completion_mask"].sum(dim=1).view(mixed_PG.shape)

    def state_dict(self):
        return {"worth": torch.tensor(self.worth)}

    def load_state_dict(self, state):
        self.worth = state["worth"].item()


def constant(value):
    return lambda logp_BC, old_logp_BC, advantage_B1: torch.full_like(logp_BC, value)


@pytest.mark.parametrize("rule", ["fixed", "popo", "popo_light"])
def test_a_bonus_is_added_to_the_advantages_of_the_weights_of_the_step(make_trainer, rule):
    bonus, used = PerLetter(), []
    trainer = make_trainer(rule=rule, max_steps=1, bonus=bonus)
    loss = trainer._compute_loss

    def spy(model, inputs):
        used.append(inputs["advantages"] - 0.25 * inputs["completion_mask"].sum(dim=1))
        return loss(model, inputs)

    trainer._compute_loss = spy
    trainer.train()
    (mixed_PG,) = bonus.mixed
    want = np.sort(group_advantages(mixed_PG.double()).numpy().ravel())  # TRL shuffles rollouts
    assert np.sort(torch.cat(used).numpy()) == pytest.approx(want, abs=1e-4)
    assert steps(trainer)[0]["popo/bonus"] > 0


def test_eq_6_never_sees_a_bonus(make_trainer):
    rows = []
    for bonus in (None, PerLetter()):
        trainer = make_trainer(max_steps=1, bonus=bonus)
        trainer.train()
        rows.append(steps(trainer)[0])
    for name in (f"popo/I_{A}", f"popo/I_{B}", f"popo/w_{A}"):
        assert rows[0][name] == rows[1][name]
    assert rows[0]["grad_norm"] != rows[1]["grad_norm"]


def test_the_update_that_a_bonus_changes_is_the_one_of_a_backward_pass(make_trainer):
    # Normalised advantages are mixed, so the known gradient serves until a bonus is in the way.
    settings = {"multi_objective_aggregation": "normalize_then_sum", "max_steps": 1}
    plain = make_trainer(rule="fixed", bonus=PerLetter(), **settings)
    plain.train()
    ours = make_trainer(rule="popo", eta=1e-9, bonus=PerLetter(), **settings)
    ours.train()
    assert ours._update is None
    means = [[state["exp_avg"] for state in t.optimizer.state.values()] for t in (ours, plain)]
    for a, b in zip(*means, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-6)


def test_a_factor_stands_in_the_place_of_the_ratio_by_hand():
    # d/dlogp of -A exp(logp - old), old = logp - log f:  -A f = -2 * .25 and 3 * .5
    logp_BC = torch.tensor([[-1.0], [-2.0]], requires_grad=True)
    inputs = {"advantages": torch.tensor([2.0, -3.0])}
    seen = {}

    def factor(now_BC, old_BC, advantage_B1):
        seen.update(now=now_BC, old=old_BC, advantage=advantage_B1)
        return torch.where(advantage_B1 >= 0, 0.25, 0.5)

    update.put_factor(inputs, logp_BC, factor)
    loss = -(inputs["advantages"][:, None] * torch.exp(logp_BC - inputs["old_per_token_logps"]))
    loss.sum().backward()
    assert logp_BC.grad.flatten().tolist() == pytest.approx([-0.5, 1.5])
    assert torch.equal(seen["old"], seen["now"])
    assert not seen["now"].requires_grad
    assert seen["advantage"].shape == (2, 1)


def test_a_factor_scales_the_gradient_of_the_whole_loss(make_trainer):
    norms = []
    for factor in (None, constant(1.0), constant(2.0)):
        trainer = make_trainer(rule="fixed", max_steps=1, token_factor=factor)
        trainer.train()
        norms.append(steps(trainer)[0]["grad_norm"])
    assert norms[1] == pytest.approx(norms[0], rel=1e-5), "on the policy itself the ratio is 1"
    assert norms[2] == pytest.approx(2 * norms[0], rel=1e-5)


@pytest.mark.parametrize("rule", ["popo", "popo_split", "mgda", "cagrad"])
def test_a_factor_is_refused_where_gradients_of_single_rewards_are_weighed(make_trainer, rule):
    with pytest.raises(ConfigError, match="popo_light, tchebycheff or fixed"):
        make_trainer(rule=rule, token_factor=constant(1.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_type": "cispo"}, "no ratio"),
        ({"importance_sampling_level": "sequence"}, "importance_sampling_level"),
        ({"delta": 2.0}, "delta"),
        ({"beta": 0.1, "use_bias_correction_kl": True}, "use_bias_correction_kl"),
    ],
)
def test_a_factor_is_refused_where_the_loss_has_no_place_for_it(make_trainer, settings, message):
    with pytest.raises(ConfigError, match=message):
        make_trainer(rule="fixed", token_factor=constant(1.0), **settings)


def test_a_bonus_is_refused_where_several_processes_would_each_learn_their_own():
    trainer = types.SimpleNamespace(accelerator=types.SimpleNamespace(num_processes=2))
    with pytest.raises(EngineError, match="train in one"):
        update.refuse_bonus(trainer)


def test_a_checkpoint_brings_a_bonus_back(tmp_path, make_trainer):
    rule = make_trainer(max_steps=1).rule
    resumed = PerLetter(9.0)
    state.save(tmp_path, rule, PerLetter(0.5))
    state.load(tmp_path, rule, resumed)
    assert resumed.worth == 0.5


def test_a_checkpoint_of_another_bonus_or_none_is_refused(tmp_path, make_trainer):
    rule = make_trainer(max_steps=1).rule
    state.save(tmp_path, rule)
    with pytest.raises(ConfigError, match="without a bonus"):
        state.load(tmp_path, rule, PerLetter())
    (tmp_path / "popo_bonus.safetensors").write_bytes(b"cut short")
    with pytest.raises(DataError, match="another bonus"):
        state.load(tmp_path, rule, PerLetter())
