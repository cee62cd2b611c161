import numpy as np
import pytest

from taiji.alignment.rewards.semantic import semantic_reward
from taiji.errors import DivergenceError


def test_semantic_reward_follows_eq_3_by_hand():
    # cos((3, 4), (4, 3)) = 24/25; opposite: -1; an empty answer is the zero vector: 0
    answers = np.array([[3, 4], [1, 0], [0, 0]], dtype=np.float32)
    targets = np.array([[4, 3], [-2, 0], [1, 0]], dtype=np.float32)
    assert semantic_reward(answers, targets) == pytest.approx([24 / 25, -1, 0])


def test_semantic_reward_refuses_nan():
    with pytest.raises(DivergenceError):
        semantic_reward(np.array([[np.nan]]), np.array([[1.0]]))
