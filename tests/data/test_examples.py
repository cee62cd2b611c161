"""Examples against a reference that a reader can follow, and the tests that nothing leaks."""

import hashlib
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taiji.artifacts import conform
from taiji.config import DataSection
from taiji.data.examples import LONG_TAIL, MIN_HISTORY, build_examples, draw_examples
from taiji.data.splits import RANK_SPLITS, TARGET_SPLITS, WEEKS, week_start, window_start
from taiji.data.tables import Tables
from taiji.schema import EXAMPLES, EXPOSURES, INTERACTIONS, ITEMS, USERS

EVERYTHING = DataSection(
    num_sft=10_000, num_rl=10_000, num_test=10_000, num_rank_users=10_000, history_items=5
)
SEED = 17
ITEM_IDS = [f"i{n}" for n in range(8)]


def item(item_id, title=None):
    number = int(item_id[1:])
    return {
        "item_id": item_id,
        "title": title or f"Title {number}",
        "category_l1": "All",
        "category_l2": f"Kind {number % 3}",
        "category_l3": None,
        "brand": ("Private label", "National brand", None)[number % 3],
    }


def world(orders, *, users=None, items=None, holdout=()):
    """Make tables of orders (user, order, ts, {item: price})."""
    rows = [
        {
            "user_id": user,
            "item_id": item_id,
            "ts": ts,
            "order_id": order,
            "kind": "purchase",
            "quantity": 1,
            "price": price,
        }
        for user, order, ts, basket in orders
        for item_id, price in basket.items()
    ]
    names = users or sorted({order[0] for order in orders})
    people = [
        {"user_id": user, "age": "45-54" if user == "u0" else None, "holdout": user in holdout}
        for user in names
    ]
    return Tables(
        users=pa.Table.from_pylist(people, USERS),
        items=pa.Table.from_pylist(items or [item(i) for i in ITEM_IDS], ITEMS),
        interactions=pa.Table.from_pylist(rows, INTERACTIONS),
        exposures=EXPOSURES.empty_table(),
    )


def random_orders(rng, num_users=2, num_orders=25):
    """Orders of small baskets; moments repeat on purpose, within and across users."""
    moments = [
        week_start(rng.choice((5, 9, 10, 32, 33, 38, 39, 47, 53)))
        + timedelta(hours=rng.randrange(168))
        for _ in range(num_orders)
    ]
    orders = []
    for number in range(num_users * num_orders):
        basket = rng.sample(ITEM_IDS, rng.randint(1, 4))
        prices = {i: rng.choice((None, 0.5, 1.25, 2.0)) for i in basket}
        orders.append((f"u{number % num_users}", f"o{number}", rng.choice(moments), prices))
    return orders


def digest(salt, *keys):
    return hashlib.md5("|".join((salt, *keys)).encode()).hexdigest()


def past_of(orders, user, cutoff):
    """All interactions of a user strictly before a moment, newest first."""
    lines = [
        (ts, order, item_id, price)
        for who, order, ts, basket in orders
        for item_id, price in basket.items()
        if who == user and ts < cutoff
    ]
    return sorted(lines, key=lambda line: line[:3], reverse=True)


def split_of(ts):
    for window, split in TARGET_SPLITS.items():
        first, last = WEEKS[window]
        for week in range(first, last + 1):
            if week_start(week) <= ts < week_start(week + 1):
                return split, week
    return None, None


def reference(orders, *, novel=False, holdout=()):
    """Every example with a target, by the rules in words: order -> (split, target, new title)."""
    weeks = defaultdict(list)
    for user, order, ts, basket in orders:
        split, week = split_of(ts)
        past = past_of(orders, user, ts)
        if split is None or len(past) < MIN_HISTORY or (user in holdout and split != "test"):
            continue
        known = {line[2] for line in past}
        lines = sorted(basket, key=lambda i: digest(f"line-{SEED}", user, order, i))
        new = next((i for i in lines if i not in known), None)
        wants_new = novel and split != "test"
        if wants_new and new is None:
            continue
        weeks[split, user, week].append((order, split, new if wants_new else lines[0], new))
    chosen = [
        min(found, key=lambda row: digest(f"order-{SEED}", user, row[0]))
        for (_, user, _), found in weeks.items()
    ]
    return {order: (split, target, new) for order, split, target, new in chosen}


def rows_of(tables, section=EVERYTHING):
    return build_examples(tables, section, SEED).to_pylist()


def with_target(rows):
    return {row["example_id"].split("-")[-1]: row for row in rows if row["basket_item_ids"]}


@settings(max_examples=12, deadline=None)
@given(st.randoms(use_true_random=False), st.booleans(), st.booleans())
def test_examples_are_those_of_the_rules_in_words(rng, novel, hold_out):
    orders = random_orders(rng)
    holdout = ("u1",) if hold_out else ()
    section = EVERYTHING.model_copy(update={"target": "novel" if novel else "any"})
    found = with_target(rows_of(world(orders, holdout=holdout), section))
    expected = reference(orders, novel=novel, holdout=holdout)
    assert {
        order: (row["split"], row["target_item_id"], row["novel_target_item_id"])
        for order, row in found.items()
    } == expected
    baskets = {order: sorted(basket) for _, order, _, basket in orders}
    assert all(row["basket_item_ids"] == baskets[order] for order, row in found.items())


@settings(max_examples=12, deadline=None)
@given(st.randoms(use_true_random=False))
def test_histories_are_the_newest_lines_strictly_before_the_cutoff(rng):
    orders = random_orders(rng)
    for row in rows_of(world(orders)):
        past = past_of(orders, row["user_id"], row["cutoff"])
        assert [(h["ts"], h["item_id"], h["price"]) for h in row["history"]] == [
            (ts, item_id, price) for ts, _, item_id, price in past[: EVERYTHING.history_items]
        ]
        assert row["history_length"] == len(past)
        assert row["long_tail"] == (len(past) < LONG_TAIL)


def steady(user, weeks, *, hour=12, basket=("i0", "i1")):
    """One order a week; order ids carry user and week."""
    return [
        (
            user,
            f"{user}w{week}",
            week_start(week) + timedelta(hours=hour),
            dict.fromkeys(basket, 1.0),
        )
        for week in weeks
    ]


def test_lines_of_one_moment_stand_in_a_total_order():
    orders = steady("u0", range(1, 8), basket=("i0",))
    at = week_start(8)
    orders += [("u0", "b", at, {"i1": 1.0, "i2": 1.0}), ("u0", "a", at, {"i3": 1.0, "i4": 1.0})]
    orders += [("u0", "target", week_start(9), {"i5": 1.0})]
    (row,) = [row for row in rows_of(world(orders)) if row["split"] == "sft"]
    # Time, then order, then item, all descending.
    assert [h["item_id"] for h in row["history"]] == ["i2", "i1", "i4", "i3", "i0"]


def test_another_order_of_the_same_moment_is_not_history():
    orders = steady("u0", range(1, 9))
    orders += [("u0", "x", week_start(9), {"i2": 1.0}), ("u0", "y", week_start(9), {"i3": 1.0})]
    (row,) = [row for row in rows_of(world(orders)) if row["split"] == "sft"]
    assert row["history_length"] == 16
    assert {h["item_id"] for h in row["history"]} == {"i0", "i1"}
    assert row["novel_target_item_id"] == row["target_item_id"]


def test_a_title_bought_once_before_is_not_novel():
    orders = [*steady("u0", range(1, 9)), ("u0", "t", week_start(9), {"i0": 1.0})]
    (row,) = [row for row in rows_of(world(orders)) if row["split"] == "sft"]
    assert row["target_item_id"] == "i0"
    assert row["novel_target_item_id"] is None


def test_at_the_edge_of_a_window_the_split_changes():
    edge = window_start("rl")
    orders = steady("u0", range(1, 9))
    orders += [
        ("u0", "last", edge - timedelta(seconds=1), {"i2": 1.0}),
        ("u0", "first", edge, {"i2": 1.0}),
    ]
    found = with_target(rows_of(world(orders)))
    assert {order: row["split"] for order, row in found.items()} == {"last": "sft", "first": "rl"}


def test_rank_splits_ask_the_same_users_twice_and_have_no_target():
    orders = steady("u0", range(1, 54)) + steady("u1", range(38, 54)) + steady("u2", range(39, 54))
    rows = [row for row in rows_of(world(orders)) if row["split"] in RANK_SPLITS]
    asked = {(row["user_id"], row["split"], row["cutoff"], row["history_length"]) for row in rows}
    assert asked == {
        ("u0", "rank_train", week_start(39), 76),
        ("u0", "rank_test", week_start(47), 92),
        ("u1", "rank_train", week_start(39), 2),
        ("u1", "rank_test", week_start(47), 18),
    }  # u2 came too late
    assert all(row["target_item_id"] is row["basket_item_ids"] is None for row in rows)


def test_a_small_draw_prefers_different_users():
    orders = [order for n in range(6) for order in steady(f"u{n}", range(1, 54))]
    section = EVERYTHING.model_copy(update={"num_sft": 6, "num_rl": 4, "num_rank_users": 3})
    rows = rows_of(world(orders), section)
    users = defaultdict(list)
    for row in rows:
        users[row["split"]].append(row["user_id"])
    assert sorted(users["sft"]) == [f"u{n}" for n in range(6)]
    assert len(set(users["rl"])) == len(users["rl"]) == 4
    assert set(users["rank_train"]) == set(users["rank_test"])
    assert len(users["rank_train"]) == 3


def test_a_larger_draw_begins_with_the_smaller_one():
    orders = [order for n in range(4) for order in steady(f"u{n}", range(1, 54))]
    tables = world(orders)
    few = rows_of(tables, EVERYTHING.model_copy(update={"num_sft": 5}))
    many = rows_of(tables, EVERYTHING.model_copy(update={"num_sft": 9}))
    sft = [[row for row in rows if row["split"] == "sft"] for rows in (few, many)]
    assert len(sft[1]) == 9
    assert sft[1][:5] == sft[0]


def test_the_funnel_accounts_for_every_basket():
    orders = steady("u0", range(1, 54)) + steady("u1", range(1, 54)) + steady("u2", range(9, 54))
    orders += [("u0", "again", week_start(12) + timedelta(hours=30), {"i5": 1.0})]
    section = EVERYTHING.model_copy(update={"num_sft": 20})
    _, funnel = draw_examples(world(orders, holdout=("u1",)), section, SEED)
    assert funnel["sft"] == {
        "drawn": 20,
        "held-out user": 24,
        "same week": 1,
        "short history": 5,  # u2 has two lines a week and needs ten
        "beyond the number asked for": 23,
    }
    assert sum(funnel["sft"].values()) == 3 * 24 + 1
    assert funnel["test"] == {"drawn": 21, "beyond the number asked for": 0}


def test_a_user_without_a_profile_or_category_still_gets_a_row():
    bare = [{**item(i), "category_l1": None, "category_l2": None, "brand": None} for i in ITEM_IDS]
    orders = steady("u1", range(1, 10))
    (row,) = [row for row in rows_of(world(orders, items=bare)) if row["split"] == "sft"]
    assert row["profile"] == "Usually pays 1.00 to 1.00 USD; shops mostly on weekday afternoons."
    assert row["history"][0]["text"] == "Title 1; 1.00 USD; 1 week before"


def test_profile_figures_by_hand():
    orders = [
        ("u0", "a", week_start(1), {"i0": 1.0, "i3": 2.0, "i1": 3.0}),
        ("u0", "b", week_start(2) + timedelta(hours=18), {"i0": 4.0, "i2": None}),
        ("u0", "c", week_start(3) + timedelta(hours=18), dict.fromkeys(ITEM_IDS[:6], 1.0)),
        ("u0", "t", week_start(9), {"i0": 99.0}),
    ]
    (row,) = [row for row in rows_of(world(orders)) if row["split"] == "sft"]
    # Kinds: 0 x5 (i0 i3 i0 i0 i3), 1 x3, 2 x3; known brands: 5 private of 8; ten prices, of
    # which the third is 1.00 and the eighth 2.00; orders b and c fall on a Monday at 18 h.
    assert row["profile"] == (
        "Household: age 45-54. Buys mostly kind 0, kind 1 and kind 2; usually pays 1.00 to 2.00 "
        "USD; 62% private label; shops mostly on weekday evenings."
    )


@settings(max_examples=12, deadline=None)
@given(st.randoms(use_true_random=False))
def test_nothing_at_or_after_a_cutoff_reaches_its_example(rng):
    orders = random_orders(rng)
    moment = rng.choice([order[2] for order in orders])
    future = [item(i, title=f"Planted <think> {i}") for i in ("i8", "i9")]
    items = [item(i) for i in ITEM_IDS] + future

    altered = [
        (user, order, ts, dict.fromkeys(("i8", "i9"), 777.0))
        if ts >= moment
        else (user, order, ts, basket)
        for user, order, ts, basket in orders
    ]
    planted = [
        (u, f"p{n}{u}", moment + timedelta(hours=n), {"i9": 777.0})
        for n in (0, 1, 400)
        for u in ("u0", "u1")
    ]
    before = by_moment(world(orders, items=items))
    after = by_moment(world(altered + planted, items=items))
    clean = {key: row for key, row in before.items() if key[2] <= moment}
    both = clean.keys() & after.keys()
    for key in both:
        assert as_bytes(knowledge(after[key])) == as_bytes(knowledge(before[key]))
        if key[2] < moment:
            assert as_bytes(after[key]) == as_bytes(before[key])
    # A planted order of the same week may win the draw of that week; nothing else may vanish.
    gone = clean.keys() - after.keys()
    assert all(split_of(key[2])[1] == split_of(moment)[1] for key in gone)


def by_moment(tables):
    return {(row["user_id"], row["split"], row["cutoff"]): row for row in rows_of(tables)}


def knowledge(row):
    """Everything but the basket that is to be foreseen."""
    hidden = {"example_id", "target_item_id", "novel_target_item_id", "basket_item_ids"}
    return {name: value for name, value in row.items() if name not in hidden}


def as_bytes(row):
    return repr(row).encode()


def test_altering_the_target_basket_changes_the_target_alone():
    orders = [*steady("u0", range(1, 9)), ("u0", "t", week_start(9), {"i2": 1.0, "i3": 2.0})]
    other = [*orders[:-1], ("u0", "t", week_start(9), {"i4": 777.0})]
    first, second = (
        next(row for row in rows_of(world(o)) if row["split"] == "sft") for o in (orders, other)
    )
    assert first["target_item_id"] != second["target_item_id"]
    assert as_bytes(knowledge(first)) == as_bytes(knowledge(second))


def test_which_basket_is_drawn_does_not_depend_on_what_is_in_it():
    orders = [
        o
        for n in range(3)
        for h in (1, 30, 60)
        for o in [
            (u, f"{o}h{h}", ts + timedelta(hours=h), b)
            for u, o, ts, b in steady(f"u{n}", range(1, 20))
        ]
    ]
    others = [(u, o, ts, {"i6": 5.0, "i7": 5.0}) for u, o, ts, _ in orders]
    section = EVERYTHING.model_copy(update={"num_sft": 7})
    drawn = [
        [row["example_id"] for row in rows_of(world(o), section) if row["split"] == "sft"]
        for o in (orders, others)
    ]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 7


def test_the_draw_never_changes():
    orders = [order for n in range(4) for order in steady(f"u{n}", range(1, 54))]
    section = EVERYTHING.model_copy(update={"num_sft": 4})
    ids = [row["example_id"] for row in rows_of(world(orders), section) if row["split"] == "sft"]
    assert ids == ["sft-u2-u2w32", "sft-u3-u3w19", "sft-u1-u1w25", "sft-u0-u0w32"]


def test_rows_are_the_same_however_the_log_is_ordered():
    orders = random_orders(random.Random(3), num_users=3, num_orders=40)
    tables = world(orders)
    shuffled = random.Random(1).sample(
        range(tables.interactions.num_rows), tables.interactions.num_rows
    )
    turned = Tables(
        users=tables.users.take(list(reversed(range(tables.users.num_rows)))),
        items=tables.items.take(list(reversed(range(tables.items.num_rows)))),
        interactions=tables.interactions.take(shuffled),
        exposures=tables.exposures,
    )
    assert build_examples(tables, EVERYTHING, SEED).equals(build_examples(turned, EVERYTHING, SEED))


def test_examples_come_in_the_columns_of_the_schema():
    table = build_examples(world(steady("u0", range(1, 54))), EVERYTHING, SEED)
    assert conform(table, EXAMPLES, where="examples").schema == EXAMPLES
    ids = table["example_id"].to_pylist()
    assert len(set(ids)) == len(ids) > 0
    assert table["cutoff"][0].as_py().tzinfo is not None
    assert isinstance(table["cutoff"][0].as_py().astimezone(UTC), datetime)


def test_a_log_without_orders_gives_no_examples():
    assert build_examples(world([], users=["u0"]), EVERYTHING, SEED).num_rows == 0


@pytest.mark.parametrize("words", [60])
def test_profiles_stay_within_the_budget_of_a_prompt(words):
    orders = random_orders(random.Random(5), num_users=3, num_orders=40)
    assert all(len(row["profile"].split()) <= words for row in rows_of(world(orders)))
