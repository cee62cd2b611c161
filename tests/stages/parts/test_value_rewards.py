"""The reward `value` of a run: prices of before alignment, bounds of the pool."""

import market_run
import numpy as np
import pytest

from taiji.alignment.rewards.reward import Rollout
from taiji.config import SimulateSection
from taiji.errors import ConfigError, DataError
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.value_rewards import prices_of, value_reward
from taiji.stages.simulate import simulate


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("valued")
    market_run.write_construct(folder / "construct")
    settings = market_run.recipe(simulate=SimulateSection(pool_pairs=200, gold=False))
    context = market_run.context(folder, "simulate", settings)
    simulate(context)
    logs = Constructed(folder / "construct")
    return logs, logs.examples("rank_train"), context.out


def test_answers_are_paid_by_chance_and_price_within_the_pool(run):
    logs, examples, simulated = run
    reward = value_reward("quantile", logs, examples, simulated)
    example, item = examples["example_id"][0].as_py(), logs.items["item_id"][0].as_py()
    named = Rollout(example, "", "ok", "", item, "exact", 1.0, 1.0, None, 1.0)
    nothing = Rollout(example, "", "ok", "", None, "none", 0.0, 0.0, None, 1.0)
    paid, unpaid = reward([named, nothing])
    by_hand = reward.scorer.score([example], [item]) * reward.worth([example], [item])
    assert paid == pytest.approx(float(reward.normaliser.apply(by_hand)[0]))
    assert 0 < paid <= 1
    assert unpaid == 0


def test_without_a_ranking_model_or_a_price_it_says_what_to_do(run):
    logs, examples, _ = run
    with pytest.raises(ConfigError, match="needs the ranking model"):
        value_reward("quantile", logs, examples, None)
    with pytest.raises(DataError, match=r"no item has a price.*interactions\.price"):
        prices_of(logs.interactions.slice(0, 0))


def test_prices_are_means_by_item(run):
    logs, _, _ = run
    prices = prices_of(logs.interactions)
    assert np.isclose(prices.otherwise, np.median(list(prices.price.values())))
    assert set(prices.price) <= set(logs.items["item_id"].to_pylist())
