"""The reward `distance` of a run: where items are, and where its users usually were before."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taiji.alignment.rewards.distance import DistanceReward, Place, usual_km, usual_places
from taiji.arrays import Array
from taiji.errors import DataError
from taiji.schema import TIME
from taiji.stages.parts.constructed import Constructed


def distance_reward(logs: Constructed, examples: pa.Table) -> DistanceReward:
    """Build it. A user's place is of before the example's moment, d0 of before alignment.

    Visits are what could be foreseen: no mere views, nothing that was disliked.

    Args:
        logs: The log.
        examples: Rows of `schema.EXAMPLES` that the policy answers.

    Raises:
        DataError: Nobody went to a known place before the weeks of alignment.
    """
    places = logs.places
    visits = logs.taken.select(["user_id", "item_id", "ts"])
    visits = visits.filter(pc.is_in(visits["item_id"], value_set=places["item_id"]))
    before = visits.filter(pc.less(visits["ts"], pa.scalar(logs.calendar.start("rl"), TIME)))
    if not before.num_rows:
        raise DataError(
            "align.rewards.more: distance: no user went to a known place before the weeks of "
            "alignment: map data.source.items.latitude and longitude of more items, or leave "
            "distance out"
        )
    users = pc.unique(before["user_id"])
    owner_N = np.asarray(pc.index_in(before["user_id"], value_set=users), dtype=np.int64)
    coordinates = zip(places["latitude"].to_pylist(), places["longitude"].to_pylist(), strict=True)
    return DistanceReward(
        _usual(visits, places, examples),
        dict(zip(places["item_id"].to_pylist(), coordinates, strict=True)),
        usual_km(owner_N, _where(before, places), len(users)),
    )


def _usual(visits: pa.Table, places: pa.Table, examples: pa.Table) -> dict[str, Place]:
    """Where the user of each example usually was, of those who had been anywhere by then."""
    users = pc.unique(examples["user_id"])
    own = visits.filter(pc.is_in(visits["user_id"], value_set=users))
    owner_N = np.asarray(pc.index_in(own["user_id"], value_set=users), dtype=np.int64)
    ts_N = np.asarray(own["ts"], dtype="datetime64[us]")
    order_N = np.lexsort((ts_N, owner_N))
    owner_N, ts_N, place_N2 = owner_N[order_N], ts_N[order_N], _where(own, places)[order_N]
    starts_U = np.searchsorted(owner_N, np.arange(len(users) + 1))
    cutoff_E = np.asarray(examples["cutoff"], dtype="datetime64[us]")
    user_E = np.asarray(pc.index_in(examples["user_id"], value_set=users), dtype=np.int64)
    spans = [
        starts_U[user] + np.arange(np.searchsorted(ts_N[starts_U[user] : starts_U[user + 1]], at))
        for user, at in zip(user_E, cutoff_E, strict=True)  # what lies strictly before the moment
    ]
    example_V = np.repeat(np.arange(len(spans)), [len(span) for span in spans])
    visit_V = np.concatenate(spans)
    usual_E2 = usual_places(example_V, place_N2[visit_V], len(spans))
    named = zip(examples["example_id"].to_pylist(), usual_E2.tolist(), strict=True)
    return {example: (place[0], place[1]) for example, place in named if not np.isnan(place[0])}


def _where(visits: pa.Table, places: pa.Table) -> Array:
    rows: NDArray[np.int64] = np.asarray(
        pc.index_in(visits["item_id"], value_set=places["item_id"]), dtype=np.int64
    )
    columns = [places[name].to_numpy()[rows] for name in ("latitude", "longitude")]
    return np.stack(columns, axis=1)
