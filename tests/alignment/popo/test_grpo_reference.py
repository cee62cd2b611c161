"""Eq. 8 and 9 by hand, and the trainer's whole update against them."""

import numpy as np
import pytest
import torch
from toy import A, B
from transformers import LlamaForCausalLM

from taiji.alignment.popo.advantages import AdvantageRule
from taiji.alignment.popo.reference import Logprobs, group_advantages, grpo_objective, mix

# TRL 1.16 asks transformers 5.23 for a property by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def test_mix_follows_eq_9_by_hand():
    mixed = mix(tensor([[[1.0, 0.5], [0.0, 1.0]]]), tensor([0.25, 0.75]))
    assert mixed.tolist() == [[0.625, 0.75]]


def test_advantages_follow_eq_8_by_hand():
    # (0, 1, 2): mean 1, sample deviation 1; a group without spread gives nothing
    out = group_advantages(tensor([[0.0, 1.0, 2.0], [5.0, 5.0, 5.0]]), epsilon=0.0001)
    assert out.numpy() == pytest.approx(np.array([[-1, 0, 1], [0, 0, 0]]) / 1.0001)


def test_the_trainers_advantages_are_the_reference():
    rewards, weights = torch.randn(3, 4, 2, dtype=torch.float64), tensor([0.3, 0.7])
    rule = AdvantageRule(num_generations=4, scale="group", aggregation="sum_then_normalize")
    combined, _ = rule.combined(rewards.view(-1, 2), weights)
    assert combined.numpy() == pytest.approx(group_advantages(mix(rewards, weights)).ravel())
    alone = rule.alone(rewards.view(-1, 2)).view(3, 4, 2)
    for k in range(2):
        assert torch.allclose(alone[:, :, k], group_advantages(rewards[:, :, k]))


def test_objective_follows_eq_8_by_hand():
    # One token each. Ratio 2 clipped to 1.2 for advantage 1; for advantage -1 the minimum
    # keeps -2. d = log(ref / policy) = log 0.5: k3 = 0.5 + log 2 - 1 = 0.193147.
    # Mean (1.2 - 2) / 2 = -0.4; minus 0.1 * 0.193147.
    half, full = tensor([[0.2], [0.2]]).log(), tensor([[0.4], [0.4]]).log()
    logprobs = Logprobs(policy=full, old=half, reference=half)
    value = grpo_objective(
        logprobs, tensor([1.0, -1.0]), torch.ones(2, 1), clip=0.2, beta=0.1
    ).item()
    assert value == pytest.approx(-0.4 - 0.0193147, abs=1e-6)


def test_padding_counts_for_nothing():
    short = Logprobs(*(tensor([[-1.0]]) for _ in range(3)))
    padded = Logprobs(*(tensor([[-1.0, 7.0]]) for _ in range(3)))
    advantages = tensor([2.0])
    assert grpo_objective(padded, advantages, tensor([[1.0, 0.0]])) == grpo_objective(
        short, advantages, torch.ones(1, 1)
    )


class Paper:
    """One generation of a trainer as Eq. 8 and 9 see it, through a plain forward in float64."""

    def __init__(self, trainer, folder, batch):
        self.trainer, self.batch = trainer, batch
        self.model = LlamaForCausalLM.from_pretrained(folder).double()
        with torch.no_grad():
            self.reference = self.logprobs()
            self.follow()
            self.old = self.logprobs()

    def follow(self):
        self.model.load_state_dict(self.trainer.model.state_dict())

    def logprobs(self):
        batch = self.batch
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        output = self.model(input_ids=ids, attention_mask=mask, position_ids=positions)
        logprobs = torch.log_softmax(output.logits[:, :-1], dim=-1)
        picked = logprobs.gather(2, ids[:, 1:, None]).squeeze(2)
        return picked[:, -batch["completion_ids"].shape[1] :]

    def gradient(self, clip, beta):
        """Of what the paper maximises, under the weights in force now."""
        self.follow()
        self.model.zero_grad()
        weights = tensor([self.trainer.weights[name] for name in (A, B)])
        rewards = self.trainer._rewards_NK.double().view(-1, 4, 2)
        objective = grpo_objective(
            Logprobs(self.logprobs(), self.old, self.reference),
            group_advantages(mix(rewards, weights)).flatten(),
            self.batch["completion_mask"],
            clip=clip,
            beta=beta,
        )
        objective.backward()
        return torch.cat([p.grad.flatten() for p in self.model.parameters()])


@pytest.mark.parametrize("rule", ["fixed", "popo"])
def test_the_whole_update_is_that_of_the_paper(make_trainer, toy_model_folder, rule):
    """Ratios off 1, clipped and not, a KL to the first policy, and completions of any length."""
    clip, beta = 1e-3, 0.3
    moving = {"eta": 20.0} if rule == "popo" else {}
    trainer = make_trainer(
        rule=rule, epsilon=clip, beta=beta, num_iterations=2, max_steps=4, learning_rate=1e-2,
        prompts=[[3, 4], [5, 6, 7, 8], [9, 10, 11], [12] * 6], **moving,
    )  # fmt: skip
    papers, seen = [], []
    generate, clip_norm = trainer._generate_and_score_completions, trainer._clip_grad_norm

    def generating(inputs):
        papers.append(Paper(trainer, toy_model_folder, dict(generate(inputs))))
        return dict(papers[-1].batch)

    def comparing(model, *args, **kwargs):
        found = torch.cat([p.grad.flatten() for p in trainer.model.parameters()]).double()
        want = -papers[-1].gradient(clip, beta)
        seen.append(((found - want).norm() / want.norm()).item())
        return clip_norm(model, *args, **kwargs)

    trainer._generate_and_score_completions, trainer._clip_grad_norm = generating, comparing
    trainer.train()
    assert len(seen) == 4
    assert max(seen) < 2e-5
    rows = [row for row in trainer.state.log_history if "kl" in row]
    assert 0 < max(row["clip_ratio/region_mean"] for row in rows) < 1
    assert rows[-1]["kl"] > 0
    assert rule == "fixed" or abs(trainer.weights[A] - 0.5) > 0.05
