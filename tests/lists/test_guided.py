import numpy as np

from taiji.lists.guided import PathTree, guided_beam, keep_best

# Two symbols of two children each: 0 -> 0, 1 and 1 -> 2, 3. The generator likes 0; item 3 is true.
LIKELY = [np.log([0.9, 0.1]), np.log([0.5, 0.4, 0.06, 0.04])]
WORTH = [np.array([0.0, 1.0]), np.array([0.0, 0.0, 0.5, 1.0])]


def expand(depth, prefixes):
    if depth == 0:
        return np.arange(2)
    return (prefixes[:, None] * 2 + np.arange(2)).ravel()


def of(table):
    return lambda depth, candidates: [table[depth][own] for own in candidates]


def beam(guide, keep, shown=4, users=1):
    sizes = {"users": users, "depths": 2, "keep": keep, "shown": shown}
    found = guided_beam(expand, of(LIKELY), guide, **sizes)
    return [[own.tolist() for own in survivors] for survivors in found]


def test_the_best_stand_first_and_the_earlier_of_equals():
    kept = keep_best(np.array([7, 8, 9]), np.array([1.0, 2.0, 2.0]), 2)
    assert kept.tolist() == [8, 9]


def test_the_plain_beam_follows_the_likelihood_and_loses_the_true_item_at_the_first_symbol():
    assert beam(None, 1) == [[[0]], [[0]]]
    assert beam(None, 2) == [[[0, 1]], [[0, 1]]]


def test_a_guide_saves_it_for_every_user():
    assert beam(of(WORTH), 1, users=2) == [[[1], [1]], [[3], [3]]]


def test_a_guide_sees_no_more_than_it_is_shown():
    assert beam(of(WORTH), 1, shown=1) == [[[0]], [[0]]]
    asked = []

    def noting(depth, candidates):
        asked.append(candidates[0].tolist())
        return of(WORTH)(depth, candidates)

    beam(noting, 2, shown=3)
    assert asked == [[0, 1], [0, 1, 2]]  # by likelihood, whatever order they survived in


def test_the_tree_of_a_catalogue_by_hand():
    categories = [("food", "tea", "green"), ("food", "tea", "black"), ("garden",), (), ("food",)]
    tree = PathTree.of_catalogue(categories)
    assert tree.paths[0] == (("food",), ("garden",))
    assert tree.paths[1] == (("food", "tea"), ("garden",), ("food",))
    assert tree.sizes == [2, 3, 4, 5]
    assert tree.of_title_NB.tolist() == [
        [0, 0, 0, 0],
        [0, 0, 1, 1],
        [1, 1, 2, 2],
        [-1, -1, -1, -1],
        [0, 2, 3, 4],
    ]
    assert tree.expand(0, np.empty(0, dtype=np.int64)).tolist() == [0, 1]
    assert tree.expand(1, np.array([0])).tolist() == [0, 2]
    assert tree.expand(2, np.array([0, 1])).tolist() == [0, 1, 2]
    assert tree.expand(3, np.array([1, 3])).tolist() == [1, 4]
