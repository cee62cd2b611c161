"""OneLoc's GMV reward by hand."""

import numpy as np
import pytest

from taiji.alignment.rewards.normalisers import Linear
from taiji.alignment.rewards.reward import Rollout
from taiji.alignment.rewards.value import Prices, ValueReward


class Scores:
    def score(self, context_ids, item_ids):
        table = {("e1", "cheap"): 0.4, ("e1", "dear"): 0.1, ("e2", "dear"): 0.3}
        return np.array([table[pair] for pair in zip(context_ids, item_ids, strict=True)])


def rollout(example, item):
    rung = "exact" if item else "none"
    return Rollout(example, "", "ok", "", item, rung, 1.0, 1.0, 1.0, 1.0)


def test_an_answer_earns_its_chance_times_its_price_on_the_scale_of_the_pool():
    # .4 x 2 = .8, .1 x 20 = 2, .3 x 20 = 6, between 0 and 4; no item, nothing.
    reward = ValueReward(
        Scores(), Prices({"cheap": 2.0, "dear": 20.0}, 5.0), Linear("minmax", 0.0, 4.0)
    )
    rollouts = [rollout("e1", "cheap"), rollout("e1", "dear"), rollout("e2", "dear")]
    found = reward([*rollouts, rollout("e2", None)], completions=[])
    assert found == pytest.approx([0.2, 0.5, 1.0, 0.0])
    assert reward([rollout("e1", None)]) == [0.0]


def test_an_item_that_nobody_had_bought_costs_what_items_cost():
    assert Prices({"a": 2.0}, 5.0)(["e", "e"], ["a", "b"]).tolist() == [2.0, 5.0]
