"""Running sums that can be asked how they stood strictly before a moment.

Events are folded once; a question then costs two binary searches instead of a scan of a
history. All sums are of integers, so that the order of addition can never show in a feature.

Shape suffixes: E events, R rows (one a key and moment), N questions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taiji.arrays import Ints

Folded = tuple[Ints, Ints, dict[str, Ints]]
"""Keys, moments and sums of events that belong together."""


@dataclass(frozen=True)
class State:
    """How a key stood; all zeros where nothing had happened yet.

    Attributes:
        moments: Distinct moments so far.
        first_at: The first of them.
        last_at: The latest of them.
        sums: Sums so far, by name.
    """

    moments: Ints
    first_at: Ints
    last_at: Ints
    sums: Mapping[str, Ints]


class Ledger:
    """Sums over the events of each key, in the order of time.

    Args:
        key_E: What an event belongs to.
        moment_E: When it happened; events of one moment are one row.
        amounts: What to sum, one whole number an event.
    """

    def __init__(self, key_E: Ints, moment_E: Ints, amounts: Mapping[str, Ints]) -> None:
        order = np.lexsort((moment_E, key_E))
        key, moment = key_E[order], moment_E[order]
        new_key = np.ones(key.size, dtype=bool)
        new_key[1:] = np.diff(key) != 0
        self._keys = key[new_key]
        self._moments = np.unique(moment_E)
        place = self._places(np.cumsum(new_key) - 1, moment)
        first = np.flatnonzero(np.diff(place, prepend=-1))
        self._place_R = place[first]
        edges = np.append(first, key_E.size)
        self._totals = {
            name: _narrow(np.concatenate([[0], np.cumsum(amount[order])])[edges])
            for name, amount in amounts.items()
        }

    def before(self, key_N: Ints, moment_N: Ints) -> State:
        """The state of each key before, and not at, a moment."""
        key = np.searchsorted(self._keys, key_N)
        known = key < self._keys.size
        known[known] = self._keys[key[known]] == key_N[known]
        start = np.searchsorted(self._place_R, key * (self._moments.size + 1))
        stop = np.searchsorted(self._place_R, self._places(key, moment_N))
        stop = np.where(known, stop, start)
        some = stop > start
        return State(
            moments=stop - start,
            first_at=self._moments_at(start, some),
            last_at=self._moments_at(stop - 1, some),
            sums={
                name: total[stop].astype(np.int64) - total[start]
                for name, total in self._totals.items()
            },
        )

    def _moments_at(self, rows_N: Ints, some_N: NDArray[np.bool_]) -> Ints:
        """The moment of each row; 0 where there is none."""
        picked = np.zeros(rows_N.size, dtype=np.int64)
        places = self._place_R[rows_N[some_N]] % (self._moments.size + 1)
        picked[some_N] = self._moments[places]
        return picked

    def _places(self, key: Ints, moment: Ints) -> Ints:
        """One number that orders by key, then by time."""
        return key * (self._moments.size + 1) + np.searchsorted(self._moments, moment)


def fold(key_E: Ints, moment_E: Ints, amounts: Mapping[str, Ints]) -> Folded:
    """One row for each key and moment, with the sums over its events: what a ledger makes of it."""
    order = np.lexsort((moment_E, key_E))
    key, moment = key_E[order], moment_E[order]
    new = (np.diff(key, prepend=key[:1] - 1) != 0) | (np.diff(moment, prepend=moment[:1] - 1) != 0)
    first = np.flatnonzero(new)
    sums = {name: np.add.reduceat(amount[order], first) for name, amount in amounts.items()}
    return key[first], moment[first], sums


def joint_key(high: Ints, low: Ints) -> Ints:
    """One integer for a pair of codes; a null category (-1) gets a key of its own."""
    return np.asarray((high << 32) + low + 1, dtype=np.int64)


def user_weeks(key: Ints, week: Ints, user: Ints) -> dict[str, Ints]:
    """1 at one event of each key, week and user: a user counts once a week."""
    order = np.lexsort((user, week, key))
    changes = [np.diff(column[order], prepend=-2) != 0 for column in (key, week, user)]
    first = np.zeros(key.size, dtype=np.int64)
    first[order] = np.logical_or.reduce(changes)
    return {"user_weeks": first}


def _narrow(totals: Ints) -> NDArray[np.int32] | Ints:
    """The same numbers in half the bytes, where they fit."""
    bounds = np.iinfo(np.int32)
    fits = totals.size == 0 or bounds.min <= totals.min() <= totals.max() <= bounds.max
    return totals.astype(np.int32) if fits else totals
