import json

import numpy as np
import pytest

from taiji.alignment.rewards.grounding import Grounded
from taiji.alignment.rewards.normalisers import Discount, Linear, fit_normaliser
from taiji.alignment.rewards.preference import PreferenceReward, Scale, scale_from_json
from taiji.errors import DataError, DivergenceError

NOTHING = Grounded((), (), "none", 0.3)


def hard(item):
    return Grounded((item,), (1.0,), "exact", 1.0)


class ByItem:
    """One score an item, whoever asks."""

    def __init__(self, **scores):
        self.scores, self.asked = scores, []

    def score(self, context_ids, item_ids):
        self.asked += list(zip(context_ids, item_ids, strict=True))
        return np.array([self.scores[item] for item in item_ids])


def test_a_soft_answer_earns_the_mean_of_its_items_times_its_gate():
    # milk 0.2 of [0, 0.5] is 0.4, tea 0.5 is 1: 3/4 * 0.4 + 1/4 * 1 = 0.55; half open: 0.275
    soft = Grounded(("milk", "tea"), (0.75, 0.25), "category", 0.6, gate=0.5)
    scorer = ByItem(milk=0.2, tea=0.5)
    reward = PreferenceReward(scorer, Scale(Linear("minmax", 0.0, 0.5)))
    out = reward.reward(["e1", "e2", "e3"], [soft, NOTHING, hard("tea")])
    assert out == pytest.approx([0.275, 0, 1])
    assert scorer.asked == [("e1", "milk"), ("e1", "tea"), ("e3", "tea")]


def test_the_normaliser_is_applied_to_items_not_to_their_mean():
    # The mean 0.35 of 0.2 and 0.5 would be 0.35 on a scale to 1; clipped at 0.25 it is 0.9.
    soft = Grounded(("milk", "tea"), (0.5, 0.5), "category", 1.0)
    reward = PreferenceReward(ByItem(milk=0.2, tea=0.5), Scale(Linear("winsorised", 0.0, 0.25)))
    assert reward.reward(["e1"], [soft]) == pytest.approx([0.9])


def test_the_discount_comes_before_the_normaliser():
    discount = Discount.fit(1.0, ["milk", "tea"], np.array([0.1, 0.3]))  # overall 0.2
    reward = PreferenceReward(ByItem(milk=0.1, tea=0.3), Scale(Linear("minmax", 0, 0.4), discount))
    assert reward.reward(["e", "e"], [hard("milk"), hard("tea")]) == pytest.approx([0.5, 0.5])


def test_nothing_grounded_asks_nobody_and_nan_stops():
    scorer = ByItem(milk=np.nan)
    reward = PreferenceReward(scorer, Scale(Linear("minmax", 0.0, 1.0)))
    assert reward.reward(["e1", "e2"], [NOTHING, NOTHING]).tolist() == [0, 0]
    assert reward.reward([], []).tolist() == []
    assert scorer.asked == []
    with pytest.raises(DivergenceError):
        reward.reward(["e1"], [hard("milk")])


@pytest.mark.parametrize("kind", ["quantile", "rank"])
@pytest.mark.parametrize("power", [None, 0.25])
def test_a_scale_survives_the_trip_through_json(kind, power):
    pool = np.array([0.1, 0.2, 0.7 / 3])
    discount = power and Discount.fit(power, ["a", "b"], pool[:2])
    scale = Scale(fit_normaliser(kind, pool), discount)
    assert scale_from_json(json.loads(json.dumps(scale.to_json()))) == scale


def test_a_damaged_scale_is_refused():
    with pytest.raises(DataError):
        scale_from_json({"kind": "minmax", "low": 0, "high": 1, "discount": {"power": 1}})
