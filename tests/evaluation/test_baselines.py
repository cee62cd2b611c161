from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taiji import schema
from taiji.evaluation.baselines import BASELINES, baseline_answers

START = datetime(2017, 1, 1, tzinfo=UTC)


def log(*rows: tuple[str, str, int]) -> pa.Table:
    """Interactions from (user, item, hour)."""
    return pa.Table.from_pylist(
        [
            {
                "user_id": user,
                "item_id": item,
                "ts": START + timedelta(hours=hour),
                "order_id": f"{user}-{hour}",
                "kind": "purchase",
                "quantity": 1,
                "price": 1.0,
            }
            for user, item, hour in rows
        ],
        schema.INTERACTIONS,
    )


def asked(*rows: tuple[str, int]) -> pa.Table:
    """Examples from (user, hour of the cut-off); only these two columns are read."""
    users, hours = zip(*rows, strict=True)
    cutoffs = pa.array([START + timedelta(hours=hour) for hour in hours], schema.TIME)
    return pa.table({"user_id": pa.array(users), "cutoff": cutoffs})


def test_each_baseline_answers_what_its_name_says():
    interactions = log(
        ("a", "bread", 1),
        ("a", "bread", 2),
        ("a", "milk", 3),
        ("b", "milk", 1),
        ("b", "milk", 2),
        ("b", "tea", 4),
    )
    answers = baseline_answers(interactions, asked(("a", 5), ("b", 5)))
    assert answers == {
        "most_popular": ["milk", "milk"],  # milk 3, bread 2, tea 1
        "most_popular_new": ["tea", "bread"],
        "most_frequent": ["bread", "milk"],
        "last_bought": ["milk", "tea"],
    }


def test_ties_go_to_the_later_bought_and_then_to_the_smaller_id():
    interactions = log(("a", "tea", 1), ("a", "bread", 2), ("a", "milk", 2))
    answers = baseline_answers(interactions, asked(("a", 3)))
    assert answers["most_popular"] == ["bread"]
    assert answers["most_frequent"] == ["bread"]  # as late as milk, later than tea
    assert answers["last_bought"] == ["bread"]


def test_an_event_at_the_cutoff_is_not_seen():
    answers = baseline_answers(log(("a", "bread", 1), ("a", "milk", 2)), asked(("a", 2)))
    assert answers["last_bought"] == ["bread"]
    assert answers["most_popular"] == ["bread"]


def test_a_user_without_history_gets_no_answer_but_the_popular_one():
    answers = baseline_answers(log(("a", "bread", 1)), asked(("new", 2), ("new", 0)))
    assert answers["most_popular"] == ["bread", None]
    assert answers["most_popular_new"] == ["bread", None]
    assert answers["most_frequent"] == [None, None]
    assert answers["last_bought"] == [None, None]


def test_examples_keep_their_order_whatever_their_cutoffs():
    interactions = log(("a", "bread", 1), ("a", "milk", 3), ("a", "milk", 4))
    answers = baseline_answers(interactions, asked(("a", 9), ("a", 2), ("a", 5)))
    assert answers["most_popular"] == ["milk", "bread", "milk"]


EVENTS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("wxyz"), st.integers(0, 9)), min_size=1
)


@given(past=EVENTS, future=EVENTS)
def test_nothing_at_or_after_the_cutoff_leaks(past, future):
    later = [(user, item, hour + 10) for user, item, hour in future]
    examples = asked(("a", 10), ("b", 10))
    assert baseline_answers(log(*past, *later), examples) == baseline_answers(log(*past), examples)


@pytest.mark.parametrize("name", BASELINES)
def test_an_answer_is_an_item_of_the_log(name):
    interactions = log(("a", "bread", 1), ("b", "milk", 1))
    (answer,) = baseline_answers(interactions, asked(("a", 2)))[name]
    assert answer in {"bread", "milk"}
