import numpy as np
from lift_world import DAY, TREE, names, purchases

from taiji.lift.log_lists import log_names
from taiji.lift.moments import Moments

PAST = (
    (0, 1, "milk"),
    (0, 2, "milk"),
    (0, 2, "eggs"),
    (1, 1, "milk"),
    (1, 1, "ham"),
    (2, 1, "milk"),
    (2, 2, "ham"),
    (3, 1, "tea"),
)
FUTURE = ((0, 10, "soap"), (1, 10, "soap"), (0, 11, "tea"), (0, 12, "tea"), (0, 13, "tea"))


def lists(*lines):
    moments = Moments(np.array([0]), np.array([10 * DAY]), np.array([20 * DAY]), np.array([0]))
    found = log_names(
        moments, purchases(*lines), before=10 * DAY, num_nodes=len(TREE.paths), names=3
    )
    return {name: names(rows[0]) for name, rows in found.items()}


def test_favourites_and_what_goes_with_them():
    found = lists(*PAST)
    assert found["favourites"] == ["milk", "eggs", None]
    assert found["co-purchase, new"] == ["ham", None, None]
    assert set(found["co-purchase"]) == {"milk", "eggs", "ham"}


def test_what_happens_at_or_after_the_moment_changes_nothing():
    assert lists(*PAST, *FUTURE) == lists(*PAST)
