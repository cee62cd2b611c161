"""The reward `distance` of a run: places of before each moment, and how far visits used to be."""

from datetime import timedelta

import market_run
import numpy as np
import pyarrow as pa
import pytest
from weeks import window_start

from taiji.alignment.rewards.distance import LEAST_KM
from taiji.alignment.rewards.reward import Rollout
from taiji.config import RewardsSection
from taiji.errors import DataError
from taiji.schema import INTERACTIONS, PLACES
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.paid_rewards import RunSoFar, paid_rewards
from taiji.store.files import read_parquet, write_parquet


@pytest.fixture
def folder(tmp_path):
    market_run.write_construct(tmp_path / "construct", num_users=30)
    items = Constructed(tmp_path / "construct").items["item_id"].to_pylist()
    rows = [
        {"item_id": item, "latitude": 50 + n % 7, "longitude": 10 + n % 5}
        for n, item in enumerate(items[:-1])  # nobody knows where the last one is
    ]
    table = pa.Table.from_pylist(rows, PLACES)
    write_parquet(table, tmp_path / "construct" / "places.parquet", PLACES)
    return tmp_path / "construct"


def built(folder):
    """As a recipe asks for it."""
    logs = Constructed(folder)
    run = RunSoFar(None, logs, logs.examples("rank_train"), None, None)
    return logs, paid_rewards(RewardsSection(more=({"kind": "distance"},)), lambda: run)["distance"]


def visit(logs, user, item, ts):
    row = {"user_id": user, "item_id": item, "ts": ts, "order_id": "late", "kind": "purchase"}
    return pa.Table.from_pylist([row | {"quantity": 1}], INTERACTIONS)


def add(folder, table):
    path = folder / "interactions.parquet"
    whole = pa.concat_tables([read_parquet(path, INTERACTIONS), *[table] * 50])
    write_parquet(whole, path, INTERACTIONS)


def test_users_are_where_their_visits_before_the_moment_were(folder):
    logs, reward = built(folder)
    places = {row["item_id"]: row for row in logs.places.to_pylist()}
    assert len(reward.usual) == 30
    for example in logs.examples("rank_train").to_pylist()[:5]:
        own = [
            places[row["item_id"]]
            for row in logs.taken.to_pylist()
            if row["user_id"] == example["user_id"]
            and row["ts"] < example["cutoff"]
            and row["item_id"] in places
        ]
        by_hand = [np.median([row[name] for row in own]) for name in ("latitude", "longitude")]
        assert reward.usual[example["example_id"]] == pytest.approx(by_hand)
    assert LEAST_KM < reward.km < 1000


def test_nothing_at_or_after_the_moment_moves_anybody(folder):
    logs, before = built(folder)
    example = logs.examples("rank_train").to_pylist()[0]
    far = logs.places["item_id"][6].as_py()
    add(folder, visit(logs, example["user_id"], far, example["cutoff"]))
    _, after = built(folder)
    assert after == before
    earlier = example["cutoff"] - timedelta(microseconds=1)
    add(folder, visit(logs, example["user_id"], far, earlier))
    _, moved = built(folder)
    assert moved.usual[example["example_id"]] != before.usual[example["example_id"]]
    assert moved.km == before.km  # it is after alignment began
    others = {name: place for name, place in before.usual.items() if name != example["example_id"]}
    assert {name: moved.usual[name] for name in others} == others


def test_answers_are_paid_for_being_near(folder):
    logs, reward = built(folder)
    example = logs.examples("rank_train")["example_id"][0].as_py()
    items = logs.items["item_id"].to_pylist()
    answers = [Rollout(example, "", "ok", "", i, "exact", 1.0, 1.0, 1.0, 1.0) for i in items]
    paid = np.array(reward(answers))
    assert paid[-1] == 0  # nobody knows where it is
    assert (paid[:-1] > 0).all()
    assert paid.max() <= 1
    assert len(set(paid.round(9))) > 5


def test_a_log_without_a_visit_to_a_known_place_is_refused(folder):
    logs = Constructed(folder)
    late = logs.interactions["ts"].to_numpy() >= np.datetime64(
        window_start("rl").replace(tzinfo=None)
    )
    path = folder / "interactions.parquet"
    table = read_parquet(path, INTERACTIONS)
    write_parquet(table.filter(pa.array(late)), path, INTERACTIONS)
    with pytest.raises(DataError, match=r"distance: no user went .* map data\.source\.items"):
        built(folder)
