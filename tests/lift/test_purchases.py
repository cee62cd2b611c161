import numpy as np
from lift_world import DAY, NODE, purchases


def test_what_lies_between_two_moments_includes_the_first_and_not_the_last():
    log = purchases((0, 1, "milk"), (0, 2, "eggs"), (0, 3, "ham"), (1, 2, "tea"))
    moment, node = log.between(np.array([0, 1]), np.array([1, 1]) * DAY, np.array([3, 9]) * DAY)
    assert sorted(zip(moment.tolist(), node.tolist(), strict=True)) == [
        (0, NODE["milk"]),
        (0, NODE["eggs"]),
        (1, NODE["tea"]),
    ]


def test_the_next_basket_ends_just_after_it():
    log = purchases((0, 1, "milk"), (0, 4, "eggs"), (1, 9, "tea"))
    ends = log.next_basket_ends(np.array([0, 0, 0]), np.array([1, 2, 5]) * DAY)
    assert ends.tolist() == [DAY + 1, 4 * DAY + 1, 5 * DAY]  # nothing follows: an empty stretch


def test_a_log_without_purchases_has_no_future():
    log = purchases()
    assert log.next_basket_ends(np.array([0]), np.array([7])).tolist() == [7]
    assert log.between(np.array([0]), np.array([0]), np.array([9]))[0].size == 0
