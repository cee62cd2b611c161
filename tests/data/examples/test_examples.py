"""Examples against a reference that a reader can follow, and the tests that nothing leaks."""

import hashlib
import random
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weeks import WEEKS, week_start, window_start

from taiji.config import DataSection, DateWindows, ShareWindows, SplitsSection
from taiji.data.calendar import RANK_SPLITS, TARGET_SPLITS
from taiji.data.engine import open_engine
from taiji.data.engine.duckdb_engine import DuckDbEngine
from taiji.data.examples.examples import draw_examples
from taiji.errors import DataError
from taiji.schema import EVENTS, EXAMPLES, INTERACTIONS, ITEMS, USERS
from taiji.store.files import read_parquet

EVERYTHING = DataSection(
    num_sft=10_000, num_rl=10_000, num_test=10_000, num_rank_users=10_000, history_items=5
)
SEED = 17
MIN_HISTORY, LONG_TAIL = EVERYTHING.min_history, EVERYTHING.long_tail
ITEM_IDS = [f"i{n}" for n in range(8)]


@dataclass(frozen=True)
class World:
    users: pa.Table
    items: pa.Table
    interactions: pa.Table
    events: pa.Table = field(default_factory=EVENTS.empty_table)


def draw(world, section=EVERYTHING):
    """The examples as a table, and how orders were judged."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "examples.parquet"
        with open_engine("duckdb", Path(folder) / "scratch") as engine:
            for name, table in vars(world).items():
                engine.register(name, table)
            _, funnel = draw_examples(engine, section, SEED, path)
        return read_parquet(path, EXAMPLES), funnel


def rows_of(world, section=EVERYTHING):
    return draw(world, section)[0].to_pylist()


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
        {
            "user_id": user,
            "holdout": user in holdout,
            "fields": [("age", "45-54" if user == "u0" else None)],
        }
        for user in names
    ]
    return World(
        users=pa.Table.from_pylist(people, USERS),
        items=pa.Table.from_pylist(items or [item(i) for i in ITEM_IDS], ITEMS),
        interactions=pa.Table.from_pylist(rows, INTERACTIONS),
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


def with_target(rows):
    return {row["example_id"].split("-")[-1]: row for row in rows if row["basket_item_ids"]}


@settings(max_examples=6, deadline=None)
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


@settings(max_examples=6, deadline=None)
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
    _, funnel = draw(world(orders, holdout=("u1",)), section)
    assert funnel["sft"] == {
        "drawn": 20,
        "held-out user": 24,
        "same period": 1,
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
    # which the third is 1.00 and the eighth 2.00. Three orders make no usual time.
    assert row["profile"] == (
        "User: age 45-54. Buys mostly kind 0, kind 1 and kind 2; usually pays 1.00 to 2.00 "
        "USD; 62% private label."
    )


@pytest.mark.parametrize(
    ("hours", "told"),
    [
        ((18, 18, 18, 18), ""),  # four orders
        ((18, 18, 18, 18, 18), "weekday evenings"),
        ((18, 18, 18, 12, 12), "weekday evenings"),  # 3 to 2: leads by a fifth
        ((18, 18, 18, 12, 12, 8), ""),  # 3 to 2 of six: by a sixth
        ((18, 18, 12, 12, 8), ""),
    ],
)
def test_a_usual_time_is_told_of_enough_orders_and_with_a_margin(hours, told):
    orders = [
        ("u0", f"o{n}", week_start(n + 1) + timedelta(hours=hour), dict.fromkeys(ITEM_IDS[:4], 1.0))
        for n, hour in enumerate(hours)
    ]
    rows = rows_of(world([*orders, ("u0", "t", week_start(9), {"i0": 1.0})]))
    (row,) = [row for row in rows if row["split"] == "sft"]
    assert (f"shops mostly on {told}." in row["profile"]) == bool(told)
    assert ("shops mostly" in row["profile"]) == bool(told)


def test_lines_of_a_basket_stand_by_their_place_in_it_and_tell_their_notes():
    made = world([*steady("u0", range(1, 8)), ("u0", "z", week_start(8), {"i1": 1.0, "i5": 1.0})])
    rows = made.interactions.to_pylist()
    places = {"i5": 1, "i1": 2}
    for row in rows:
        if row["order_id"] == "z":
            row |= {"line": places[row["item_id"]], "note": f'rated {places[row["item_id"]]}; "x"'}
    log = pa.Table.from_pylist(rows, INTERACTIONS)
    orders = World(made.users, made.items, log)
    rows = [r for r in rows_of(orders) if r["split"].startswith("rank")]
    first, second = rows[0]["history"][:2]
    assert (first["item_id"], second["item_id"]) == ("i1", "i5")  # the last line is the newest
    assert "; \"rated 2, 'x'\"; 1.00 USD; " in first["text"]


@settings(max_examples=6, deadline=None)
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
    return {
        name: value
        for name, value in row.items()
        if name not in ("example_id", "basket_item_ids") and "target" not in name
    }


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
    turned = World(
        users=tables.users.take(list(reversed(range(tables.users.num_rows)))),
        items=tables.items.take(list(reversed(range(tables.items.num_rows)))),
        interactions=tables.interactions.take(shuffled),
    )
    assert draw(tables)[0].equals(draw(turned)[0])


def test_what_was_known_is_the_same_put_together_at_once_or_in_parts(monkeypatch):
    made = world(random_orders(random.Random(5), num_users=4, num_orders=30))
    whole, _ = draw(made)
    assert whole.num_rows > 10
    monkeypatch.setattr(DuckDbEngine, "asks_at_once", 3)
    assert draw(made)[0].equals(whole)


def test_examples_come_in_the_order_of_their_splits_and_have_ids_of_their_own():
    rows = rows_of(world(steady("u0", range(1, 54))))
    ids = [row["example_id"] for row in rows]
    assert len(set(ids)) == len(ids) > 0
    splits = list(dict.fromkeys(row["split"] for row in rows))
    assert splits == ["sft", "rl", "test", "rank_train", "rank_test"]
    assert rows[0]["cutoff"].tzinfo is not None


def test_ids_of_examples_differ_whatever_dashes_their_users_and_orders_have():
    orders = [
        (user, order.format(n=n), moment, basket)
        for user, order in (("A", "7-{n}"), ("A-7", "{n}"))
        for n, (_, _, moment, basket) in enumerate(steady("u0", range(1, 54)))
    ]
    rows = rows_of(world(orders))
    assert len({row["user_id"] for row in rows}) == 2
    assert len({row["example_id"] for row in rows}) == len(rows)


def test_a_log_without_orders_is_an_error():
    with pytest.raises(DataError, match="the log is empty"):
        draw(world([], users=["u0"]))


@pytest.mark.parametrize("target", ["any", "novel"])
def test_the_whole_basket_can_be_the_target(target):
    orders = [*steady("u0", range(1, 9)), ("u0", "t", week_start(9), dict.fromkeys(ITEM_IDS[:4]))]
    settings = {"target": target, "target_items": "basket"}
    rows = rows_of(world(orders), EVERYTHING.model_copy(update=settings))
    (row,) = [row for row in rows if row["split"] == "sft"]
    new = ["i2", "i3"]
    assert row["target_item_ids"] == (["i0", "i1", *new] if target == "any" else new)
    assert row["target_item_id"] in row["target_item_ids"]
    one = EVERYTHING.model_copy(update={"target": target})
    (row,) = [row for row in rows_of(world(orders), one) if row["split"] == "sft"]
    assert row["target_item_ids"] == [row["target_item_id"]]


def test_one_target_of_a_user_in_a_period_of_so_many_days():
    hours = (0, 30, 60, 90)  # of a Monday, Tuesday, Wednesday and Thursday
    orders = steady("u0", range(1, 9))
    orders += [("u0", f"h{n}", week_start(12) + timedelta(hours=n), {"i2": 1.0}) for n in hours]
    drawn = {}
    for days in (1, 2, 7):
        splits = EVERYTHING.splits.model_copy(update={"period_days": days})
        rows = rows_of(world(orders), EVERYTHING.model_copy(update={"splits": splits}))
        drawn[days] = sum(row["split"] == "sft" for row in rows)
    # Week 12 begins 21 days after its window: periods of 2 days part Monday from the rest.
    assert drawn == {1: 4, 2: 3, 7: 1}


def test_short_histories_and_long_tails_are_settings():
    orders = steady("u0", range(1, 54))
    section = EVERYTHING.model_copy(update={"min_history": 30, "long_tail": 40})
    rows = rows_of(world(orders), section)
    lengths = [row["history_length"] for row in rows if row["split"] == "sft"]
    assert min(lengths) == 30
    assert all(row["long_tail"] == (row["history_length"] < 40) for row in rows)


def test_windows_by_share_divide_the_time_of_the_log():
    orders = steady("u0", range(1, 54))
    shares = ShareWindows(history=0.2, reward=0.2, rl=0.2, ranker=0.2, test=0.2)
    section = EVERYTHING.model_copy(update={"splits": SplitsSection(windows=shares)})
    rows = rows_of(world(orders), section)
    cutoffs = defaultdict(list)
    for row in rows:
        cutoffs[row["split"]].append(row["cutoff"])
    first, last = orders[0][2], orders[-1][2]
    for split, (begin, end) in {"sft": (0.2, 0.4), "rl": (0.4, 0.6), "test": (0.8, 1)}.items():
        places = [(cutoff - first) / (last - first) for cutoff in cutoffs[split]]
        assert begin - 0.01 <= min(places) < begin + 0.03
        assert end - 0.03 <= max(places) <= end + 0.01


def test_windows_that_the_log_does_not_touch_are_an_error():
    later = DateWindows(
        history=date(2020, 1, 1), reward=date(2020, 2, 1), rl=date(2020, 3, 1),
        ranker=date(2020, 4, 1), test=date(2020, 5, 1), end=date(2020, 6, 1),
    )  # fmt: skip
    section = EVERYTHING.model_copy(update={"splits": SplitsSection(windows=later)})
    with pytest.raises(DataError, match=r"no window touches it: .*shares"):
        draw(world(steady("u0", range(1, 54))), section)


def test_a_log_of_three_days_is_too_short_for_five_windows():
    moments = [datetime(2017, 3, day, tzinfo=UTC) for day in (1, 2, 3)]
    orders = [("u0", f"o{n}", moment, {"i0": 1.0}) for n, moment in enumerate(moments)]
    splits = SplitsSection()
    with pytest.raises(DataError, match="too short"):
        draw(world(orders), EVERYTHING.model_copy(update={"splits": splits}))


def test_what_a_user_did_beside_buying_is_told_only_from_before():
    orders = steady("u0", range(1, 10))
    cutoff = next(o[2] for o in orders if o[1] == "u0w9")
    searches = [
        {"user_id": "u0", "ts": cutoff + timedelta(hours=h), "modality": "search", "value": f"h{h}"}
        for h in (-2, -1, 0, 1)
    ]
    base = world(orders)
    told = World(base.users, base.items, base.interactions, pa.Table.from_pylist(searches, EVENTS))
    (row,) = [row for row in rows_of(told) if row["split"] == "sft"]
    assert "h-1, h-2" in row["profile"] or "h-1 and h-2" in row["profile"]
    assert "h0" not in row["profile"]
    assert "h1" not in row["profile"]


@pytest.mark.parametrize("words", [60])
def test_profiles_stay_within_the_budget_of_a_prompt(words):
    orders = random_orders(random.Random(5), num_users=3, num_orders=40)
    assert all(len(row["profile"].split()) <= words for row in rows_of(world(orders)))
