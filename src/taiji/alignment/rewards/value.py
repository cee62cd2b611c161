"""What an answer's item is worth to whoever sells it: OneLoc's GMV reward (arXiv 2508.14646).

    r_gmv = normalised pCTCVR x price of the item that the answer names

The paper gives no formula; this is our reading of it. The price is what the item cost so far, or,
where `ranker.value` was learned, what a conversion of this user would be worth. The normaliser is
fitted on the pool of `simulate`, as that of Eq. 4.

Shape suffixes: N answers, M answers that name an item.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from taiji.alignment.rewards.normalisers import Normaliser
from taiji.alignment.rewards.preference import PreferenceScorer
from taiji.alignment.rewards.reward import Rollout
from taiji.arrays import Array


class Worth(Protocol):
    """What a conversion is worth, in the log's currency."""

    def __call__(self, context_ids: Sequence[str], item_ids: Sequence[str]) -> Array:
        """One number, 0 or more, for each pair of context and item."""
        ...


@dataclass(frozen=True)
class Prices:
    """What items cost before a moment.

    Attributes:
        price: By item.
        otherwise: The median of those, for items that nobody had bought by then.
    """

    price: Mapping[str, float]
    otherwise: float

    def __call__(self, context_ids: Sequence[str], item_ids: Sequence[str]) -> Array:
        """See `Worth`; the same for everybody."""
        return np.array([self.price.get(item, self.otherwise) for item in item_ids])


@dataclass(frozen=True)
class ValueReward:
    """r_gmv of answers, in [0, 1]; 0 for one that names no item. It applies to every answer.

    Attributes:
        scorer: pCTCVR of context and item.
        worth: What it is worth.
        normaliser: Of their product.
    """

    scorer: PreferenceScorer
    worth: Worth
    normaliser: Normaliser

    def __call__(self, rollouts: Sequence[Rollout], **call: Any) -> list[float | None]:
        """See `Reward`. A list of several answers earns what its first item is worth."""
        named = [n for n, rollout in enumerate(rollouts) if rollout.grounded_item_id is not None]
        paid_N = np.zeros(len(rollouts))
        if named:
            contexts = [rollouts[n].example_id for n in named]
            items = [rollouts[n].grounded_item_id or "" for n in named]
            expected_M = self.scorer.score(contexts, items) * self.worth(contexts, items)
            paid_N[named] = self.normaliser.apply(expected_M)
        return [float(paid) for paid in paid_N]
