"""What was on offer just before a moment: the categories that anybody was shown.

Whole days that had ended by the moment are counted, seven of them, so that nothing at or after it
plays a part; whether a shown item was clicked is not looked at.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from taiji.data.engine.protocol import Engine

OFFER_DAYS = 7

_DAY = 86_400_000_000  # microseconds

_SHOWN = """
SELECT
    CAST(floor(unix_micros(exposures.ts) / {day}) AS BIGINT) AS day,
    coalesce(items.category_l3, items.category_l2, items.category_l1) AS category,
    count(*) AS times
FROM exposures
JOIN items ON items.item_id = exposures.item_id
WHERE items.category_l1 IS NOT NULL
GROUP BY 1, 2
ORDER BY 1, 2
"""
_MOMENTS = "SELECT DISTINCT unix_micros(cutoff) AS moment FROM asks ORDER BY 1"


def offers_at(engine: Engine, count: int) -> Mapping[int, Sequence[str]]:
    """The `count` categories shown most before each cut-off of `asks`, by its microseconds.

    Args:
        engine: Has `exposures`, `items` and `asks`.
        count: At most so many; equals go by name.
    """
    shown = engine.query(_SHOWN.format(day=_DAY))
    moments: list[int] = engine.query(_MOMENTS)["moment"].to_pylist()
    names = np.array(shown["category"].to_pylist(), dtype=object)
    known, category = np.unique(names.astype(str), return_inverse=True)
    days, times = (np.asarray(shown[name], dtype=np.int64) for name in ("day", "times"))
    offers = {}
    for moment in moments:
        today = moment // _DAY
        start, stop = np.searchsorted(days, [today - OFFER_DAYS, today])
        total = np.bincount(category[start:stop], times[start:stop], minlength=known.size)
        best = np.argsort(-total, kind="stable")[:count]
        offers[moment] = [str(known[place]) for place in best if total[place] > 0]
    return offers
