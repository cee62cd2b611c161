"""The exposures that ranking models learn from and are judged by, with their features."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taiji.ranking.pairs import Pairs
from taiji.stages.parts.constructed import Constructed, judged_exposures


@dataclass(frozen=True)
class RankingWindows:
    """Two windows of one log.

    Attributes:
        long_tail: Test exposures of the half with the shorter history before the training window;
            the border is the median of the users who train.
    """

    train: pa.Table
    train_pairs: Pairs
    test: pa.Table
    test_pairs: Pairs
    long_tail: NDArray[np.bool_]


def read_ranking_windows(logs: Constructed) -> RankingWindows:
    """Read what `construct` wrote.

    Raises:
        DataError: There are no exposures whose conversion is known.
    """
    exposures, calendar, asof = logs.labelled_exposures, logs.calendar, logs.as_of
    train, test = (calendar.window(name).rows(exposures) for name in ("ranker", "test"))
    test = judged_exposures(test)
    train_pairs, test_pairs = asof.features(train), asof.features(test)
    start = calendar.start("ranker")
    seen = np.unique(train_pairs.user_ids)
    border = float(np.median(asof.history_lengths(seen, start))) if seen.size else 0.0
    long_tail = asof.history_lengths(test_pairs.user_ids, start) <= border
    return RankingWindows(train, train_pairs, test, test_pairs, long_tail)
