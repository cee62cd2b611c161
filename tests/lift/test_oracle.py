import numpy as np
import pytest
from lift_world import DAY, NODE, TREE, names, purchases

from taiji.errors import DataError
from taiji.lift.moments import Moments
from taiji.lift.oracle import ComeTrue, Oracle

LOG = purchases(
    (0, 5, "soap"), (0, 11, "milk"), (0, 12, "eggs"), (0, 40, "ham"), (1, 11, "tea"), (1, 12, "tea")
)
MOMENTS = Moments(
    np.array([0, 1]), np.array([10, 10]) * DAY, np.array([20, 20]) * DAY, np.array([0, 1])
)
EVERYTHING = np.ones(len(TREE.paths))


def look(chance=EVERYTHING, count=3, seed=0):
    random = np.random.default_rng(seed)
    return Oracle.look(MOMENTS, LOG, chance, names=count, random=random)


def test_a_sure_oracle_names_what_is_bought_in_its_stretch_and_nothing_twice():
    told = look().names(2, 1.0)
    assert sorted(names(told[0])) == ["eggs", "milk"]  # soap was before, ham is after
    assert names(told[1])[0] == "tea"


def test_an_oracle_of_no_accuracy_draws_by_chance_alone():
    only_soap = np.zeros(len(TREE.paths))
    only_soap[NODE["soap"]] = 1.0
    assert names(look(only_soap).names(3, 0.0).ravel()) == ["soap"] * 6


def test_categories_outside_of_the_universe_are_never_named():
    offered = np.zeros(len(TREE.paths))
    offered[[NODE["milk"], NODE["soap"]]] = 1.0
    told = set(names(look(offered).names(3, 1.0).ravel()))
    assert told <= {"milk", "soap"}


def test_what_is_right_at_one_accuracy_is_right_at_every_higher_one():
    # the same luck for all of them, so that a curve does not rise by chance
    many = Moments(
        np.zeros(500, dtype=int),
        np.full(500, 10 * DAY),
        np.full(500, 20 * DAY),
        np.zeros(500, dtype=int),
    )
    oracle = Oracle.look(many, LOG, EVERYTHING, names=1, random=np.random.default_rng(1))
    true = ComeTrue.look(many, LOG, len(TREE.paths))
    right = [true.share(oracle.names(1, p)) for p in (0.0, 0.25, 0.5, 1.0)]
    assert right == sorted(right)
    chance = 2 / len(TREE.paths)  # of what user 0 buys, in a draw from all nodes
    assert right[0] == pytest.approx(chance, abs=0.05)
    assert right[2] == pytest.approx(0.5 + 0.5 * chance, abs=0.07)
    assert right[3] == 1.0


def test_an_empty_universe_is_refused():
    with pytest.raises(DataError, match="nothing to name"):
        look(np.zeros(len(TREE.paths)))
