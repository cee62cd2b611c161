from datetime import timedelta

import market
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from weeks import CALENDAR, week_start

from taiji import schema
from taiji.abtest.market import SLICES_A_WEEK
from taiji.abtest.requests import Inventory, draw_requests
from taiji.errors import DataError

STARTS = CALENDAR.week_starts()


@pytest.fixture(scope="module")
def world():
    return market.build(num_users=15)


@pytest.fixture(scope="module")
def inventory(world):
    return Inventory.build(world.users, world.items, world.interactions)


def exposures(world):
    return CALENDAR.window("test").rows(world.exposures)


def draw(world, inventory, table=None, **changes):
    settings = {"num_requests": 200, "num_candidates": 5, "seed": 1} | changes
    return draw_requests(
        exposures(world) if table is None else table, inventory, STARTS, **settings
    )


def test_advertisers_are_brands_within_a_level_2_and_bid_a_share_of_their_price(world, inventory):
    rows = world.items.to_pylist()
    owners = {
        (row["brand"], row["category_l1"], row["category_l2"]): int(owner)
        for row, owner in zip(rows, inventory.advertiser_I, strict=True)
    }
    assert len(set(owners.values())) == len(owners) == 6  # two brands, three aisles
    # Things of shelf s cost 1 + s; aisle 1 holds shelves 2 and 3, so prices between 3 and 4.
    aisle = owners[("Own", "Grocery", "Aisle 1")]
    assert 0.2 * 3 < inventory.tcpa_A[aisle] < 0.2 * 4


def test_candidates_are_distinct_advertisements_of_that_week(world, inventory):
    requests = draw(world, inventory)
    table = exposures(world)
    for week, start in enumerate(range(47, 54)):
        rows = requests.item_RC[requests.week_R == week]
        ran = table.filter(pc.greater_equal(table["ts"], pa.scalar(week_start(start), schema.TIME)))
        ends = pa.scalar(week_start(start) + timedelta(days=7, hours=1), schema.TIME)
        ran = set(ran.filter(pc.less(ran["ts"], ends))["item_id"].to_pylist())
        assert {inventory.item_ids[int(item)].as_py() for item in np.unique(rows)} <= ran
    assert all(len(set(row)) == 5 for row in requests.item_RC.tolist())


def test_requests_are_spread_evenly_over_the_visits(world, inventory):
    visits = {(row["user_id"], row["ts"]) for row in exposures(world).to_pylist()}
    requests = draw(world, inventory, num_requests=2 * len(visits) + 7)
    _, times = np.unique(np.stack([requests.user_R, requests.ts_R]), axis=1, return_counts=True)
    assert times.size == len(visits)
    assert sorted(set(times.tolist())) == [2, 3]
    assert (times == 3).sum() == 7
    assert draw(world, inventory, num_requests=10).user_R.size == 10


def test_slices_cut_each_week_into_equal_traffic_in_the_order_of_time(world, inventory):
    requests = draw(world, inventory, num_requests=2000)
    assert (np.diff(requests.ts_R) >= 0).all()
    assert (np.diff(requests.slice_R) >= 0).all()
    assert np.array_equal(requests.slice_R // SLICES_A_WEEK, requests.week_R)
    for week in range(7):
        counts = np.bincount(requests.slice_R[requests.week_R == week] % SLICES_A_WEEK)
        assert counts.size == SLICES_A_WEEK
        assert counts.max() - counts.min() <= 1


def test_the_order_of_the_log_does_not_matter_and_the_seed_does(world, inventory):
    table = exposures(world)
    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows)))
    one, two = draw(world, inventory), draw(world, inventory, shuffled)
    assert np.array_equal(one.item_RC, two.item_RC)
    assert not np.array_equal(one.item_RC, draw(world, inventory, seed=2).item_RC)


def test_pairs_are_asked_for_as_of_their_moment(world, inventory):
    requests = draw(world, inventory)
    table = requests.pairs(inventory, slice(3, 5), "front")
    assert table.num_rows == 10
    users = [inventory.user_ids[int(user)].as_py() for user in requests.user_R[3:5]]
    assert table["user_id"].to_pylist() == [users[0]] * 5 + [users[1]] * 5
    assert table["ts"].cast(pa.int64()).to_pylist()[::5] == requests.ts_R[3:5].tolist()
    assert set(table["placement"].to_pylist()) == {"front"}


def test_errors_say_what_to_do(world, inventory):
    with pytest.raises(DataError, match=r"no exposure lies in the test window"):
        draw(world, inventory, exposures(world).slice(0, 0))
    one_ad = exposures(world).filter(pc.equal(exposures(world)["item_id"], "i00"))
    with pytest.raises(DataError, match=r"one advertisement only"):
        draw(world, inventory, one_ad)
    nameless = world.items
    for name in ("brand", "category_l1", "category_l2"):
        place = nameless.schema.get_field_index(name)
        column = pa.nulls(len(nameless), pa.string())
        nameless = nameless.set_column(place, nameless.schema.field(name), column)
    with pytest.raises(DataError, match=r"neither brands nor categories"):
        Inventory.build(world.users, nameless, world.interactions)
