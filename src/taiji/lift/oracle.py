"""An oracle that names what a user will buy, right as often as it is told to be.

It looks into the future by construction: it says what a text of that accuracy would be worth, and
nothing of it ever reaches a model that serves.

Shape suffixes: M moments, K names of a text.
"""

from dataclasses import dataclass

import numpy as np

from taiji.arrays import Array, Ints
from taiji.errors import DataError
from taiji.lift.moments import Moments
from taiji.lift.purchases import Purchases
from taiji.ranking.categories import NOTHING


@dataclass(frozen=True)
class Oracle:
    """Draws of one universe of categories; the same for every accuracy, so that curves compare.

    Attributes:
        truth_MK: Categories that the user buys, in random order; `NOTHING` beyond them.
        chance_MK: Draws from what everybody had bought before.
        luck_MK: Uniform in [0, 1): a name is right where it lies below the accuracy.
    """

    truth_MK: Ints
    chance_MK: Ints
    luck_MK: Array

    @classmethod
    def look(
        cls,
        moments: Moments,
        purchases: Purchases,
        chance_C: Array,
        *,
        names: int,
        random: np.random.Generator,
    ) -> "Oracle":
        """Look into each moment's future.

        Args:
            moments: For whom, and how far ahead.
            purchases: What everybody buys.
            chance_C: Weight of each category among wrong names; 0 leaves a category out of the
                universe altogether.
            names: K, the most that will be asked for.
            random: Of all draws.

        Raises:
            DataError: The universe is empty.
        """
        if not chance_C.sum() > 0:
            raise DataError("ceiling: no category was bought before the window: nothing to name")
        shape = moments.user_M.size, names
        moment, node = purchases.between(moments.user_M, moments.begins_M, moments.ends_M)
        inside = chance_C[node] > 0
        moment, node = moment[inside], node[inside]
        order = np.lexsort((random.random(node.size), moment))
        moment, node = moment[order], node[order]
        place = np.arange(moment.size) - np.searchsorted(moment, moment)
        truth_MK = np.full(shape, NOTHING, dtype=np.int64)
        first = place < names
        truth_MK[moment[first], place[first]] = node[first]
        share_C = chance_C / chance_C.sum()
        chance_MK = random.choice(share_C.size, size=shape, p=share_C)
        return cls(truth_MK, chance_MK, random.random(shape))

    def names(self, count: int, accuracy: float) -> Ints:
        """(M, count): each name right with a chance of `accuracy`, as long as there is truth left.

        The n-th right name is the n-th truth, so none is named twice.
        """
        wanted_MK = self.luck_MK[:, :count] < accuracy
        turn_MK = np.cumsum(wanted_MK, axis=1) - 1
        truth_MK = np.take_along_axis(self.truth_MK, np.maximum(turn_MK, 0), axis=1)
        right_MK = wanted_MK & (truth_MK != NOTHING)
        return np.where(right_MK, truth_MK, self.chance_MK[:, :count])


@dataclass(frozen=True)
class ComeTrue:
    """What is bought in the stretch of each moment, to be asked many times.

    Attributes:
        pairs: Moment x width + node, rising.
        width: Above every node.
    """

    pairs: Ints
    width: int

    @classmethod
    def look(cls, moments: Moments, purchases: Purchases, num_nodes: int) -> "ComeTrue":
        """Look into the future of each moment."""
        moment, node = purchases.between(moments.user_M, moments.begins_M, moments.ends_M)
        return cls(np.unique(moment * num_nodes + node), num_nodes)

    def share(self, names_MK: Ints) -> float:
        """The share of names that come true: above the accuracy, as a draw may be right too."""
        named_MK = names_MK + np.arange(len(names_MK))[:, None] * self.width
        named = named_MK[names_MK != NOTHING]
        if not (named.size and self.pairs.size):
            return 0.0
        place = np.minimum(np.searchsorted(self.pairs, named), self.pairs.size - 1)
        return float((self.pairs[place] == named).mean())
