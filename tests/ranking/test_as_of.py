from datetime import UTC, datetime, timedelta

import market
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from weeks import CALENDAR, week_start

from taiji.errors import DataError
from taiji.ranking.as_of import DENSE, AsOf

MONDAY_20 = week_start(20)


def as_of(*purchases):
    return AsOf(
        users=market.users(3),
        items=market.items(),
        interactions=market.log(*purchases),
        calendar=CALENDAR,
    )


def feature(pairs, name):
    return pairs.dense[:, DENSE.index(name)]


def bought(user, item, weeks_before, price=1.0):
    return market.purchase(user, item, MONDAY_20 - timedelta(weeks=weeks_before), price)


def test_features_by_hand():
    # u000 bought i00 twice and i01 once, two of three orders with i00, first ten weeks ago
    asof = as_of(
        bought("u000", "i00", 10, 2.0), bought("u000", "i01", 5, 8.0), bought("u000", "i00", 1, 2.0)
    )
    pairs = asof.features(market.pairs(("u000", "i00", MONDAY_20)))
    by_hand = {
        "user_item_lines_a_year": np.log1p(52 * 2 / 10),
        "user_l3_lines_a_year": np.log1p(52 * 3 / 10),
        "user_item_share_of_orders": np.log(2.1 / 4),
        "user_item_share_of_l3": 2 / 3,
        "user_item_recency": np.exp(-7 / 30),
        "user_lines_a_week": np.log1p(3 / 10),
        "user_history_lines": np.log1p(3),
        "user_history_weeks": np.log1p(10),
        # of the 8 weeks before, two saw a user at all; i00 sold in one of them
        "item_share_of_users": np.log1p(10_000 / 2),
        "item_share_of_users_ever": np.log1p(10_000 * 2 / 3),
        "item_price_known": 1,
        "item_price_to_user_l3": np.log(2) - np.log(2 * 2 * 8) / 3,
    }
    for name, value in by_hand.items():
        assert feature(pairs, name)[0] == pytest.approx(value, rel=1e-5), name


def test_a_user_without_history_has_finite_features_and_an_empty_sequence():
    pairs = as_of(bought("u000", "i00", 3)).features(market.pairs(("u001", "i23", MONDAY_20)))
    assert np.isfinite(pairs.dense).all()
    assert (pairs.own_items(np.array([0]), 4) == -1).all()


def test_an_empty_log_is_answered_too():
    pairs = as_of().features(market.pairs(("u001", "i23", MONDAY_20)))
    assert np.isfinite(pairs.dense).all()


def test_what_happens_at_or_after_the_moment_changes_no_bit(world, asof):
    moment = datetime(2017, 8, 16, 12, tzinfo=UTC)
    past = world.interactions.filter(pc.less(world.interactions["ts"], moment))
    future = world.interactions.filter(pc.greater_equal(world.interactions["ts"], moment))
    reversed_items = pa.chunked_array([future["item_id"].to_pylist()[::-1]])
    altered = future.set_column(1, future.schema.field("item_id"), reversed_items)
    altered = altered.set_column(6, "price", pc.multiply(altered["price"], 7.5))
    now = market.log(
        *(market.purchase(f"u{n:03d}", "i00", moment, 99.0) for n in range(len(world.users)))
    )
    seen = world.exposures.filter(pc.less_equal(world.exposures["ts"], moment))
    at = pa.chunked_array([pa.array([moment] * len(seen), seen["ts"].type)])
    asked = pa.concat_tables([seen, seen.set_column(2, seen.schema.field("ts"), at)])
    expected = asof.features(asked)
    rows = np.arange(len(asked))
    for interactions in (past, pa.concat_tables([now, altered, past])):
        other = AsOf(
            users=world.users, items=world.items, interactions=interactions, calendar=CALENDAR
        )
        pairs = other.features(asked)
        assert pairs.dense.tobytes() == expected.dense.tobytes()
        assert (pairs.own_items(rows, 30) == expected.own_items(rows, 30)).all()
        for name in expected.fields:
            assert (pairs.fields[name].codes == expected.fields[name].codes).all()


def test_popularity_and_price_ignore_the_week_of_the_pair():
    thursday = MONDAY_20 + timedelta(days=3)
    quiet = (bought("u001", "i00", 2, 3.0), bought("u000", "i00", 4))
    same_week = market.purchase("u002", "i00", MONDAY_20 + timedelta(hours=1), 50.0)
    question = market.pairs(("u000", "i00", thursday))
    before, after = as_of(*quiet).features(question), as_of(*quiet, same_week).features(question)
    assert before.dense.tobytes() == after.dense.tobytes()


def test_one_name_under_two_parents_is_two_categories():
    # "Shelf" stands under "Aisle 0" for shelves 0 and 1; shelf 0 and 1 share it, shelf 4 does not
    asof = as_of(bought("u000", "i00", 2))
    pairs = asof.features(market.pairs(("u000", "i10", MONDAY_20), ("u000", "i40", MONDAY_20)))
    assert feature(pairs, "user_l3_recency")[0] > 0
    assert feature(pairs, "user_l3_recency")[1] == 0


def test_sequences_hold_the_latest_items_before_the_moment_newest_first():
    asof = as_of(*(bought("u000", f"i{n}0", 6 - n) for n in range(6)), bought("u001", "i51", 3))
    moment = MONDAY_20 - timedelta(weeks=2)
    pairs = asof.features(market.pairs(("u000", "i00", moment)))
    names = [asof.item_ids[item] for item in pairs.own_items(np.array([0]), 3)[0]]
    assert names == ["i30", "i20", "i10"]
    assert asof.last_items(["u000", "u001"], [moment, moment], 2) == [["i30", "i20"], ["i51"]]


def test_what_was_merely_seen_or_disliked_makes_no_sequence_and_no_popularity():
    seen = [bought("u001", "i10", n) for n in (1, 2, 3)]
    likes = [bought("u000", "i00", 2), bought("u001", "i20", 4)]
    everything = AsOf(
        users=market.users(3),
        items=market.items(),
        interactions=market.log(*likes, *seen),
        taken=market.log(*likes),
        calendar=CALENDAR,
    )
    without, asked = as_of(*likes), market.pairs(("u000", "i10", MONDAY_20))
    assert everything.last_items(["u001"], [MONDAY_20], 5) == [["i20"]]
    assert as_of(*likes, *seen).last_items(["u001"], [MONDAY_20], 2) == [["i10", "i10"]]
    pairs, bare = everything.features(asked), without.features(asked)
    for name in ("item_share_of_users", "item_share_of_users_ever", "l3_share_of_users"):
        assert feature(pairs, name) == feature(bare, name)
    # What users did is their history all the same.
    own = market.pairs(("u001", "i10", MONDAY_20))
    assert feature(everything.features(own), "user_item_lines_a_year")[0] > 0
    assert feature(without.features(own), "user_item_lines_a_year")[0] == 0
    users = np.array(["u001"], dtype=object)
    assert everything.history_lengths(users, MONDAY_20).tolist() == [4]
    assert everything.features(own).own_items(np.array([0]), 3).tolist() == [
        [everything.item_ids.index("i20"), -1, -1]
    ]


def test_a_pair_has_the_same_features_alone_and_in_company(world, asof):
    together = asof.features(world.exposures.slice(100, 50))
    alone = asof.features(world.exposures.slice(120, 1))
    assert alone.dense[0].tobytes() == together.dense[20].tobytes()


def test_unknown_items_are_refused_by_name():
    with pytest.raises(DataError, match=r"item.*'i99'"):
        as_of(bought("u000", "i00", 1)).features(market.pairs(("u000", "i99", MONDAY_20)))


def test_tables_of_one_piece_or_of_many_give_the_same_features(world, asof):
    pieces = [
        world.interactions.slice(begin, 97) for begin in range(0, len(world.interactions), 97)
    ]
    other = AsOf(
        users=world.users,
        items=pa.concat_tables([world.items.slice(0, 5), world.items.slice(5)]),
        interactions=pa.concat_tables(pieces[::-1]),
        calendar=CALENDAR,
    )
    asked = world.exposures.slice(0, 300)
    expected, got = asof.features(asked), other.features(asked)
    rows = np.arange(len(asked))
    assert got.dense.tobytes() == expected.dense.tobytes()
    assert (got.own_items(rows, 9) == expected.own_items(rows, 9)).all()


def test_pairs_of_a_user_at_one_moment_share_a_history(asof, world):
    pairs = asof.features(world.exposures.slice(0, 200))
    visits = list(zip(pairs.user_ids, world.exposures["ts"].to_pylist()[:200], strict=True))
    of_visit = dict(zip(visits, pairs.histories(), strict=True))
    assert [of_visit[visit] for visit in visits] == pairs.histories().tolist()
    assert len(set(pairs.histories())) == len(of_visit) == 50
