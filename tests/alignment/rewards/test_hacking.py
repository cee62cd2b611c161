import numpy as np

from taiji.alignment.rewards.hacking import (
    answer_shares,
    best_constants,
    mean_over,
    popularity_percentiles,
)


def test_shares_count_answers_that_name_nothing_in_the_whole():
    assert answer_shares(["b", "a", None, "b", "a", "c"]) == [
        ("a", 2 / 6),
        ("b", 2 / 6),
        ("c", 1 / 6),
    ]
    assert answer_shares([None]) == []


def test_percentiles_by_hand():
    # Sold 0, 5, 5, 9: nothing below the first and half of itself, 1/8; the fives 1/4 + 2/8
    out = popularity_percentiles(["a", "b", "c", "d"], np.array([0, 5, 5, 9]))
    assert out == {"a": 1 / 8, "b": 1 / 2, "c": 1 / 2, "d": 7 / 8}


def test_best_constants_leave_out_items_that_only_their_buyers_were_asked_about():
    items = ["a"] * 4 + ["b"] * 4 + ["own"]
    rewards = np.array([0.1, 0.2, 0.1, 0.2, 0.3, 0.3, 0.3, 0.3, 1.0])
    assert best_constants(items, rewards, 5) == ["b", "a"]
    assert best_constants(items, rewards, 1) == ["b"]


def test_means_are_over_answers_that_name_something():
    assert mean_over(["a", None, "x"], {"a": 1.0}) == 0.5
    assert mean_over([None], {"a": 1.0}) is None
