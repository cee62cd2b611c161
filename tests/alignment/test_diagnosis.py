from dataclasses import replace

import numpy as np
import pytest

from taiji.alignment.diagnosis import Diagnosis
from taiji.alignment.popo.step_log import spread, variance_shares
from taiji.alignment.rewards.normalisers import Linear
from taiji.alignment.rewards.preference import PreferenceReward, Scale
from taiji.alignment.rewards.reward import Rollout

SCORES = {
    ("e1", "milk"): 0.9,
    ("e2", "milk"): 0.5,
    ("e1", "tea"): 0.2,
    ("e2", "tea"): 0.4,
}


class Table:
    def score(self, context_ids, item_ids):
        return np.array([SCORES[pair] for pair in zip(context_ids, item_ids, strict=True)])


def rollout(example_id, item_id, preference=0.0, rung="exact"):
    answer = f"<think>x</think><answer>{item_id}</answer>" if item_id else "nonsense"
    return Rollout(
        example_id=example_id,
        completion=answer,
        status="ok" if item_id else "malformed",
        answer=item_id or "",
        grounded_item_id=item_id,
        rung=rung if item_id else "none",
        cosine=1.0,
        semantic=0.0,
        preference=preference,
        format=1.0,
    )


def diagnosis(normaliser=None, constants=("tea",)):
    return Diagnosis(
        preference=PreferenceReward(Table(), Scale(normaliser or Linear("minmax", 0.0, 1.0))),
        constants=constants,
        popularity={"milk": 0.9, "tea": 0.5},
        targets={"e1": "tea", "e2": "milk"},
    )


ROLLOUTS = [
    rollout("e1", "milk", 0.9),
    rollout("e1", None),
    rollout("e2", "milk", 0.5, "overlap"),
    rollout("e2", "tea", 0.4),
]


def test_every_line_of_a_list_in_order_is_in_order():
    two = "<think>\nBoth.\n</think>\n<answer>\nA; B; C; one\nD; E; F; two\n</answer>"
    rollouts = [replace(rollout("e1", "milk"), completion=two)]
    assert replace(diagnosis(), num_answers=2).figures(rollouts)["format/levels"] == 1.0
    assert diagnosis().figures(rollouts)["format/levels"] == 0.0


def test_the_figures_of_a_step_by_hand():
    figures = diagnosis().figures(ROLLOUTS)
    assert figures["ok_share"] == figures["grounded_share"] == 0.75
    assert figures["rung/exact"] == 0.5
    assert figures["rung/overlap"] == figures["rung/none"] == 0.25
    assert sum(value for name, value in figures.items() if name.startswith("rung/")) == 1
    assert figures["format/think"] == figures["format/levels"] == 0.75
    assert figures["hacking/top_answer_share"] == 0.5
    assert figures["hacking/distinct_answers"] == 2
    assert figures["hacking/popularity"] == pytest.approx((0.9 + 0.9 + 0.5) / 3)
    assert figures["hacking/target_popularity"] == pytest.approx(0.7)
    # Milk to everybody: (0.9 + 0.5) / 2 = 0.7, against (0.9 + 0 + 0.5 + 0.4) / 4 = 0.45
    assert figures["hacking/constant_reward"] == pytest.approx(0.7)
    assert figures["hacking/constant_over_earned"] == pytest.approx(0.7 / 0.45)


def test_without_any_item_the_pool_still_says_what_a_constant_earns():
    figures = diagnosis().figures([rollout("e1", None), rollout("e2", None)])
    assert figures["hacking/constant_reward"] == pytest.approx(0.3)  # tea: 0.2, 0.4
    assert "hacking/constant_over_earned" not in figures
    assert "hacking/popularity" not in figures
    assert figures["hacking/top_answer_share"] == 0


def test_variance_shares_by_hand():
    # Deviations 1 and 2 over two groups, 0 and 2: variances 0.5 and 4 of 4.5
    assert variance_shares(np.array([[1.0, 2.0], [0.0, 2.0]])) == pytest.approx([1 / 9, 8 / 9])
    assert variance_shares(np.array([[3.0, np.nan], [1.0, 4.0]])) == pytest.approx(
        [5 / 21, 16 / 21]
    )
    assert np.isnan(variance_shares(np.zeros((2, 2)))).all()


def test_the_share_is_logged_where_there_is_any_spread():
    rewards = np.array([[[0.0, 0.0], [1.0, 0.1]]])
    logged = spread(["a", "b"], rewards, np.ones_like(rewards, bool))
    assert logged["rewards/a/variance_share"] == pytest.approx(1 / 1.01)
    flat = spread(["a", "b"], np.zeros((1, 2, 2)), np.ones((1, 2, 2), bool))
    assert "rewards/a/variance_share" not in flat


def test_one_list_for_everybody_is_priced_as_a_list():
    both = replace(diagnosis(), num_answers=2, constants=("tea", "milk"))
    milk_first = (0.9 + 0.5) / 2
    assert both.figures(ROLLOUTS)["hacking/constant_reward"] == pytest.approx(milk_first)
    mean = replace(both, of_lists="mean").figures(ROLLOUTS)["hacking/constant_reward"]
    assert mean == pytest.approx((0.9 + 0.2 + 0.5 + 0.4) / 4)
