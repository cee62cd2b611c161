from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taiji import schema
from taiji.lists.priors import LISTS, TitlePriors
from taiji.lists.title_lists import Titles

START = datetime(2017, 1, 1, tzinfo=UTC)
NAMES = "wxyz"
ITEMS = pa.Table.from_pylist(
    [
        {"item_id": name, "title": f"Title {name}", "category_l1": "G", "category_l2": None}
        | {"category_l3": None, "brand": None}
        for name in NAMES
    ],
    schema.ITEMS,
)
TITLES = Titles(ITEMS)


def hour(number: int) -> datetime:
    return START + timedelta(hours=number)


def log(*rows: tuple[str, str, int]) -> pa.Table:
    """Interactions from (user, item, hour)."""
    users, items, hours = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "item_id": pa.array(items, pa.string()),
            "ts": pa.array([hour(number) for number in hours], schema.TIME),
        }
    )


def asked(*rows: tuple[str, int]) -> pa.Table:
    users, hours = zip(*rows, strict=True)
    cutoffs = pa.array([hour(number) for number in hours], schema.TIME)
    return pa.table({"user_id": pa.array(users), "cutoff": cutoffs})


def moments(interactions: pa.Table, examples: pa.Table, before: int) -> dict:
    return dict(TitlePriors(interactions, ITEMS, TITLES, hour(before)).moments(examples))


def order(listed) -> str:
    known = np.flatnonzero(np.isfinite(listed.score_C))
    return "".join(NAMES[c] for c in known[np.argsort(-listed.score_C[known], kind="stable")])


def test_each_list_holds_what_its_name_says():
    interactions = log(
        ("a", "w", 1),
        ("a", "w", 2),
        ("a", "x", 3),
        ("b", "x", 1),
        ("b", "y", 1),
        ("c", "x", 2),
        ("c", "y", 2),
        ("d", "w", 3),
        ("d", "z", 3),
        ("b", "x", 4),
    )
    lists = moments(interactions, asked(("a", 5)), before=5)[0].lists()
    assert set(lists) == set(LISTS)
    assert {name: order(listed) for name, listed in lists.items()} == {
        "popular": "xwyz",  # 4, 3, 2, 1 lines
        "popular_new": "yz",
        "own_frequent": "wx",
        "own_recent": "xw",
        "item_to_item": "yzxw",  # .82, .71, .67, .50
        "item_to_item_new": "yz",
    }


def test_relatedness_follows_the_cosine_by_hand():
    # Buyers: w by a and d, x by a, b and c, y by b and c. Of others who have x (b, c), 2 have y:
    # 2 / sqrt(3 * 2); nobody who has w has y.
    interactions = log(
        ("a", "w", 1), ("a", "x", 1), ("b", "x", 1), ("b", "y", 1), ("c", "x", 1), ("c", "y", 1),
        ("d", "w", 1),
    )  # fmt: skip
    moment = moments(interactions, asked(("a", 2)), before=2)[0]
    assert moment.related_C[NAMES.index("y")] == pytest.approx(2 / np.sqrt(6))
    assert moment.related_C[NAMES.index("w")] == pytest.approx(1 / 2)  # through d alone


def test_who_has_bought_nothing_is_told_what_is_popular():
    lists = moments(log(("a", "w", 1)), asked(("new", 2)), before=2)[0].lists()
    assert order(lists["popular_new"]) == "w"
    assert order(lists["own_recent"]) == order(lists["item_to_item"]) == ""


def test_equals_among_the_users_own_are_decided_by_the_other_figure():
    interactions = log(("a", "x", 1), ("a", "w", 2), ("a", "y", 2), ("a", "y", 1))
    lists = moments(interactions, asked(("a", 3)), before=3)[0].lists()
    assert order(lists["own_frequent"]) == "ywx"
    assert order(lists["own_recent"]) == "ywx"


def test_a_cutoff_before_what_was_counted_is_refused():
    priors = TitlePriors(log(("a", "w", 1)), ITEMS, TITLES, hour(5))
    with pytest.raises(ValueError, match="its future was counted"):
        next(priors.moments(asked(("a", 4))))


EVENTS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(NAMES), st.integers(0, 9)))


@settings(max_examples=25)
@given(past=EVENTS, future=EVENTS)
def test_nothing_at_or_after_the_cutoff_leaks(past, future):
    later = [(user, item, number + 10) for user, item, number in future]
    examples = asked(("a", 10), ("b", 10))
    told = moments(log(*past), examples, before=10)
    for row, moment in moments(log(*past, *later), examples, before=10).items():
        for name, values in vars(moment).items():
            assert np.array_equal(values, getattr(told[row], name)), name
