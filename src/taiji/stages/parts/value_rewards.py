"""The reward `value` of a run: its ranking model, its prices or value head, its pool."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taiji.alignment.rewards.normalisers import Kind, fit_normaliser
from taiji.alignment.rewards.value import Prices, ValueReward, Worth
from taiji.arrays import Array
from taiji.errors import ConfigError, DataError
from taiji.ranking.ctcvr_scorer import CtcvrScorer
from taiji.ranking.train import load_ranker
from taiji.ranking.values import ValueHead, load_value_head
from taiji.schema import POOL, TIME
from taiji.stages.parts.constructed import Constructed, contexts_of
from taiji.store.files import read_parquet


@dataclass(frozen=True)
class LearnedWorth:
    """What the value head says of pairs; see `Worth`."""

    head: ValueHead
    scorer: CtcvrScorer

    def __call__(self, context_ids: Sequence[str], item_ids: Sequence[str]) -> Array:
        """See `Worth`."""
        return self.head.predict(self.scorer.pairs(context_ids, item_ids))


def value_reward(
    normaliser: Kind, logs: Constructed, examples: pa.Table, simulated: Path | None
) -> ValueReward:
    """Build it; prices and bounds are of before the weeks of alignment.

    Args:
        normaliser: Of pCTCVR x price.
        logs: The log.
        examples: Rows of `schema.EXAMPLES` that the policy answers.
        simulated: What `simulate` left, if it ran.

    Raises:
        ConfigError: There is no ranking model.
        DataError: No item has a price, or an artifact is damaged.
    """
    if simulated is None:
        raise ConfigError(
            "align.rewards.more: value: needs the ranking model of `simulate`: pay "
            "align.rewards.preference without align.rewards.scores, or leave value out"
        )
    ranker, start = load_ranker(simulated / "ranker"), logs.calendar.start("rl")
    pool = read_parquet(simulated / "pool.parquet", POOL)
    users, items = pool["user_id"].to_pylist(), pool["item_id"].to_pylist()
    then = CtcvrScorer(ranker, logs.as_of, {user: (user, start) for user in users})
    scorer = CtcvrScorer(ranker, logs.as_of, contexts_of(examples))
    worth: Worth
    of_pool: Worth
    if (simulated / "value").is_dir():
        head = load_value_head(simulated / "value")
        worth, of_pool = LearnedWorth(head, scorer), LearnedWorth(head, then)
    else:
        before = pc.less(logs.interactions["ts"], pa.scalar(start, TIME))
        worth = of_pool = prices_of(logs.interactions.filter(before))
    expected_N = pool["score"].to_numpy() * of_pool(users, items)
    return ValueReward(scorer, worth, fit_normaliser(normaliser, expected_N))


def prices_of(interactions: pa.Table) -> Prices:
    """The mean price that each item had.

    Raises:
        DataError: None has any.
    """
    paid = interactions.filter(pc.greater(interactions["price"], 0))
    if not paid.num_rows:
        raise DataError(
            "align.rewards.more: value: no item has a price before the weeks of alignment: map "
            "data.source.interactions.price, or leave value out"
        )
    means = paid.group_by("item_id").aggregate([("price", "mean")])
    items, prices = means["item_id"].to_pylist(), means["price_mean"].to_numpy()
    return Prices(dict(zip(items, prices.tolist(), strict=True)), float(np.median(prices)))
