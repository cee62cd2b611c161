"""Trivial answers that a language model has to beat: popular items and the user's own past.

Every answer is as of the example's cut-off: an event at or after it changes nothing. Each of them
names one item; the same past as an ordered list of titles is in `taiji.lists.priors`.
"""

import numpy as np
import pyarrow as pa

from taiji.arrays import Ints
from taiji.lists.purchase_log import PurchaseLog, microseconds

BASELINES = ("most_popular", "most_popular_new", "most_frequent", "last_bought")

Answers = dict[str, list[str | None]]


def baseline_answers(interactions: pa.Table, examples: pa.Table) -> Answers:
    """One item id per baseline and example, in the order of `examples`.

    `most_popular` is the item on most lines of all users, `most_popular_new` the same among
    items that the user never bought, `most_frequent` the user's own favourite (the later
    bought of equals), `last_bought` an item of the user's last order. Remaining ties go to
    the smaller item id. None where there is no such item.
    """
    log = PurchaseLog(interactions)
    answers: Answers = {name: [None] * examples.num_rows for name in BASELINES}
    users = examples["user_id"].to_pylist()
    cutoffs = microseconds(examples["cutoff"])
    for row, popularity in log.popularity_at(cutoffs):
        own_items, own_times = log.history(users[row], cutoffs[row])
        unseen = popularity.copy()
        unseen[own_items] = 0
        chosen = {
            "most_popular": _most(popularity),
            "most_popular_new": _most(unseen),
            "most_frequent": _favourite(own_items, own_times),
            "last_bought": _last(own_items, own_times),
        }
        for name, item in chosen.items():
            answers[name][row] = None if item is None else log.item_ids[item]
    return answers


def _most(counts: Ints) -> int | None:
    """The first item of the highest count."""
    if counts.size == 0 or counts.max() == 0:
        return None
    return int(counts.argmax())


def _favourite(items: Ints, times: Ints) -> int | None:
    """The most frequent item; of equals the later bought, then the smaller id."""
    if items.size == 0:
        return None
    kinds, counts = np.unique(items, return_counts=True)
    latest = np.zeros(kinds.size, dtype=np.int64)
    # In the order of time, so the last assignment is the latest.
    latest[np.searchsorted(kinds, items)] = times
    return int(kinds[np.lexsort((kinds, -latest, -counts))[0]])


def _last(items: Ints, times: Ints) -> int | None:
    """The first item of the last order's moment."""
    if items.size == 0:
        return None
    return int(items[times == times[-1]].min())
