"""How near an answer is to where its user usually goes: OneLoc's place reward (arXiv 2508.14646).

    r_geo = exp(-d / d0)

The paper gives no formula; this is our reading of it. d is the way over the earth (haversine) from
the user's usual place to that of the item; d0 is how far past visits were, as a median.

Shape suffixes: N visits, U users or examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taiji.alignment.rewards.reward import Rollout
from taiji.arrays import Array

EARTH_KM = 6371.0088
"""Mean radius."""

LEAST_KM = 0.1
"""Of d0: where everybody buys at one place, all else would earn exactly nothing."""

Place = tuple[float, float]
"""Latitude and longitude, in degrees."""


def haversine_km(from_N2: Array, to_N2: Array) -> Array:
    """The way between places over a sphere, in km; rows of latitude and longitude in degrees."""
    start_N2, end_N2 = np.radians(from_N2), np.radians(to_N2)
    half_N2 = np.sin((end_N2 - start_N2) / 2) ** 2
    cosines_N = np.cos(start_N2[:, 0]) * np.cos(end_N2[:, 0])
    chord_N = half_N2[:, 0] + cosines_N * half_N2[:, 1]
    km_N: Array = 2 * EARTH_KM * np.arcsin(np.sqrt(np.minimum(chord_N, 1)))
    return km_N


def usual_places(owner_N: NDArray[np.int64], place_N2: Array, num_owners: int) -> Array:
    """Where each owner of visits usually is, U x 2: the median of each component, NaN without any.

    Ours. Longitude is counted from the owner's first visit, so that nobody who lives about 180
    degrees is torn apart.
    """
    first_U = np.full(num_owners, np.nan)
    first_U[owner_N[::-1]] = place_N2[::-1, 1]
    turned_N = _within_180(place_N2[:, 1] - first_U[owner_N])
    north_U = _medians(owner_N, place_N2[:, 0], num_owners)
    east_U = _within_180(first_U + _medians(owner_N, turned_N, num_owners))
    return np.stack([north_U, east_U], axis=1)


def usual_km(owner_N: NDArray[np.int64], place_N2: Array, num_owners: int) -> float:
    """d0: the median way from each visit to where its owner usually is, at least `LEAST_KM`."""
    usual_U2 = usual_places(owner_N, place_N2, num_owners)
    return max(float(np.median(haversine_km(usual_U2[owner_N], place_N2))), LEAST_KM)


@dataclass(frozen=True)
class DistanceReward:
    """r_geo of answers, in [0, 1]; 0 where either place is unknown. It applies to every answer.

    Attributes:
        usual: Where the user of each example usually was before its moment.
        places: Where items are.
        km: d0.
    """

    usual: Mapping[str, Place]
    places: Mapping[str, Place]
    km: float

    def __call__(self, rollouts: Sequence[Rollout], **call: Any) -> list[float | None]:
        """See `Reward`. A list of several answers earns what its first item is worth."""
        paid_N = np.zeros(len(rollouts))
        placed = [
            (n, self.usual[rollout.example_id], self.places[rollout.grounded_item_id or ""])
            for n, rollout in enumerate(rollouts)
            if rollout.example_id in self.usual and rollout.grounded_item_id in self.places
        ]
        if placed:
            rows, start, end = zip(*placed, strict=True)
            paid_N[list(rows)] = np.exp(-haversine_km(np.array(start), np.array(end)) / self.km)
        return [float(paid) for paid in paid_N]


def _medians(owner_N: NDArray[np.int64], value_N: Array, num_owners: int) -> Array:
    """The median of each owner's values; of an even number the mean of the two in the middle."""
    sorted_N = value_N[np.lexsort((value_N, owner_N))]
    number_U = np.bincount(owner_N, minlength=num_owners)
    first_U = np.cumsum(number_U) - number_U
    medians_U = np.full(num_owners, np.nan)
    some_U = number_U > 0
    first, number = first_U[some_U], number_U[some_U]
    medians_U[some_U] = (sorted_N[first + (number - 1) // 2] + sorted_N[first + number // 2]) / 2
    return medians_U


def _within_180(degrees_N: Array) -> Array:
    turned_N: Array = (degrees_N + 180) % 360 - 180
    return turned_N
