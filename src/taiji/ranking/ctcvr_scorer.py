"""The preference reward's ear: CTCVR(u, i) of Eq. 4 for a user at a fixed moment."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taiji.errors import DataError
from taiji.ranking.as_of import AsOf
from taiji.ranking.gradient_boosting import BoostedRanker
from taiji.ranking.inputs import NO_LANGUAGE
from taiji.ranking.pairs import Pairs
from taiji.ranking.train import Predictions, Ranker, predict
from taiji.schema import TIME


class CtcvrScorer:
    """Scores items for users as they were at their cut-offs.

    The pair is scored as if it were shown at the placement that training saw most: a reward
    must not depend on where an advertisement happened to stand.

    Args:
        ranker: A network, or the gold judge, of the base arm; it knows no language features, so
            that the policy cannot be paid for writing text that the ranking model likes.
        asof: The event log.
        contexts: User and cut-off by context id.
    """

    def __init__(
        self,
        ranker: Ranker | BoostedRanker,
        asof: AsOf,
        contexts: Mapping[str, tuple[str, datetime]],
    ) -> None:
        self._ranker = ranker
        self._asof = asof
        self._contexts = dict(contexts)

    def score(self, context_ids: Sequence[str], item_ids: Sequence[str]) -> NDArray[np.float64]:
        """Calibrated pCTCVR of each (context, item).

        Raises:
            DataError: A context or an item is not known.
        """
        return base_predictions(self._ranker, self.pairs(context_ids, item_ids)).ctcvr

    def pairs(self, context_ids: Sequence[str], item_ids: Sequence[str]) -> Pairs:
        """Features of each (context, item).

        Raises:
            DataError: A context or an item is not known.
        """
        unknown = [context for context in context_ids if context not in self._contexts]
        if unknown:
            raise DataError(f"ctcvr: no user and cut-off for context {unknown[0]!r}")
        asked = [self._contexts[context] for context in context_ids]
        pairs = pa.table(
            {
                "user_id": pa.array([user for user, _ in asked], pa.string()),
                "item_id": pa.array(item_ids, pa.string()),
                "ts": pa.array([cutoff for _, cutoff in asked], TIME),
                "placement": pa.array([self._ranker.placement] * len(asked), pa.string()),
            }
        )
        return self._asof.features(pairs)


def base_predictions(ranker: Ranker | BoostedRanker, pairs: Pairs) -> Predictions:
    """What a model of the base arm predicts."""
    match ranker:
        case Ranker():
            return predict(ranker, pairs)
        case BoostedRanker():
            return ranker.predict(pairs, NO_LANGUAGE)
