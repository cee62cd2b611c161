import numpy as np
import pytest
import torch

from taiji.alignment.popo.advantages import AdvantageRule
from taiji.alignment.rewards.semantic import (
    Logprobs,
    group_advantages,
    grpo_objective,
    mix,
    semantic_reward,
)
from taiji.errors import DivergenceError


def test_semantic_reward_follows_eq_3_by_hand():
    # cos((3, 4), (4, 3)) = 24/25; opposite: -1; an empty answer is the zero vector: 0
    answers = np.array([[3, 4], [1, 0], [0, 0]], dtype=np.float32)
    targets = np.array([[4, 3], [-2, 0], [1, 0]], dtype=np.float32)
    assert semantic_reward(answers, targets) == pytest.approx([24 / 25, -1, 0])


def test_semantic_reward_refuses_nan():
    with pytest.raises(DivergenceError):
        semantic_reward(np.array([[np.nan]]), np.array([[1.0]]))


def test_mix_follows_eq_9_by_hand():
    assert mix(np.array([[[1.0, 0.5], [0.0, 1.0]]]), np.array([0.25, 0.75])).tolist() == [
        [0.625, 0.75]
    ]


def test_advantages_follow_eq_8_by_hand():
    # (0, 1, 2): mean 1, sample deviation 1; a group without spread gives nothing
    out = group_advantages(np.array([[0.0, 1.0, 2.0], [5.0, 5.0, 5.0]]), epsilon=0.0001)
    assert out == pytest.approx(np.array([[-1, 0, 1], [0, 0, 0]]) / 1.0001)


def test_the_trainers_advantages_are_the_reference():
    rewards = np.random.default_rng(0).normal(size=(3, 4, 2))
    weights = np.array([0.3, 0.7])
    rule = AdvantageRule(num_generations=4, scale="group", aggregation="sum_then_normalize")
    flat = torch.tensor(rewards.reshape(-1, 2))
    combined, _ = rule.combined(flat, torch.tensor(weights))
    assert combined.numpy() == pytest.approx(group_advantages(mix(rewards, weights)).ravel())
    alone = rule.alone(flat).numpy().reshape(3, 4, 2)
    for k in range(2):
        assert alone[:, :, k] == pytest.approx(group_advantages(rewards[:, :, k]))


def test_objective_follows_eq_8_by_hand():
    # One token each. Ratio 2 clipped to 1.2 for advantage 1; for advantage -1 the minimum
    # keeps -2. d = log(ref / policy) = log 0.5: k3 = 0.5 + log 2 - 1 = 0.193147.
    # Mean (1.2 - 2) / 2 = -0.4; minus 0.1 * 0.193147.
    logprobs = Logprobs(
        policy=np.log([[0.4], [0.4]]), old=np.log([[0.2], [0.2]]), reference=np.log([[0.2], [0.2]])
    )
    value = grpo_objective(
        logprobs, np.array([1.0, -1.0]), np.ones((2, 1), bool), clip=0.2, beta=0.1
    )
    assert value == pytest.approx(-0.4 - 0.0193147, abs=1e-6)


def test_padding_counts_for_nothing():
    short = Logprobs(*(np.array([[-1.0]]) for _ in range(3)))
    padded = Logprobs(*(np.array([[-1.0, 7.0]]) for _ in range(3)))
    mask = np.array([[True, False]])
    advantages = np.array([2.0])
    assert grpo_objective(padded, advantages, mask) == grpo_objective(
        short, advantages, np.ones((1, 1), bool)
    )
