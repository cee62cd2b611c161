"""The preference reward r_id: what an answer's item is worth to this user (Eq. 4).

    score of each named item -> popularity discount -> normaliser -> mean over the items that
    the answer may mean -> gate by how well the answer was grounded

Where scores come from is behind one protocol: the ranking model of the simulate stage
(`ranking.scorer.CtcvrScorer`) or a table exported from production (`score_table.ScoreTable`).

Shape suffixes: N answers, M pairs of answer and item.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from taiji.alignment.rewards.grounding import Grounded
from taiji.alignment.rewards.normalisers import (
    Discount,
    Normaliser,
    discount_from_json,
    normaliser_from_json,
)
from taiji.arrays import Array


class PreferenceScorer(Protocol):
    """Whatever knows what users prefer, as alignment sees it."""

    def score(self, context_ids: Sequence[str], item_ids: Sequence[str]) -> Array:
        """CTCVR of each pair: of the item, for the user of a context at its moment."""
        ...


@dataclass(frozen=True)
class Scale:
    """How a score becomes a reward; fitted on the pool, frozen, and saved as normaliser.json."""

    normaliser: Normaliser
    discount: Discount | None = None

    def worth(self, scores_M: Array, item_ids: Sequence[str]) -> Array:
        """What pairs are worth as rewards."""
        if self.discount is not None:
            scores_M = self.discount.apply(scores_M, item_ids)
        return self.normaliser.apply(scores_M)

    def to_json(self) -> dict[str, Any]:
        """What `scale_from_json` reads."""
        discount = None if self.discount is None else self.discount.to_json()
        return {**self.normaliser.to_json(), "discount": discount}


def scale_from_json(value: Mapping[str, Any]) -> Scale:
    """The inverse of `Scale.to_json`.

    Raises:
        DataError: It is not that of a fitted scale.
    """
    discount = value.get("discount")
    return Scale(
        normaliser_from_json(value), None if discount is None else discount_from_json(discount)
    )


@dataclass(frozen=True)
class PreferenceReward:
    """r_id of grounded answers.

    Attributes:
        scorer: Scores pairs of context and item.
        scale: Turns scores into rewards.
    """

    scorer: PreferenceScorer
    scale: Scale

    def reward(self, context_ids: Sequence[str], grounded: Sequence[Grounded]) -> Array:
        """r_id of each answer, in [0, 1]; the floor, 0, for one that names no item.

        Raises:
            DivergenceError: A score is NaN or infinite.
        """
        answer_M = np.repeat(np.arange(len(grounded)), [len(g.item_ids) for g in grounded])
        weight_M = np.array([weight for g in grounded for weight in g.weights], dtype=np.float64)
        item_ids = [item for g in grounded for item in g.item_ids]
        scores_M = np.zeros(0)
        if item_ids:
            scores_M = self.scorer.score([context_ids[n] for n in answer_M.tolist()], item_ids)
        value_M = weight_M * self.scale.worth(scores_M, item_ids)
        value_N = np.bincount(answer_M, value_M, len(grounded))
        gate_N = np.array([g.gate for g in grounded], dtype=np.float64)
        return np.asarray(value_N * gate_N, dtype=np.float64)
