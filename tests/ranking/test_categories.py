import numpy as np
import pyarrow as pa

from taiji import schema
from taiji.ranking.categories import NOTHING, Categories, deepest_two, matches


def tree(*paths):
    rows = [
        {"item_id": f"i{n}", "title": f"t{n}", "brand": None}
        | {f"category_l{level}": part for level, part in zip((1, 2, 3), path, strict=False)}
        for n, path in enumerate(paths)
    ]
    return Categories.from_items(pa.Table.from_pylist(rows, schema.ITEMS))


SHOP = (("Food", "Dairy", "Milk"), ("Food", "Dairy", "Eggs"), ("Food", "Meat", "Ham"), ())


def test_items_lie_at_their_deepest_category_and_names_are_plain():
    found = tree(*SHOP)
    assert found.paths[found.of_item[0]] == ("food", "dairy", "milk")
    assert found.of_item[3] == NOTHING


def test_a_path_leads_to_the_deepest_node_that_is_known():
    found = tree(*SHOP)
    assert found.paths[found.find(("food", "dairy", "cheese"))] == ("food", "dairy")
    assert found.find(("toys",)) == NOTHING
    assert found.find(()) == NOTHING


def test_one_name_under_two_parents_is_two_categories():
    found = tree(("A", "Other"), ("B", "Other"))
    assert found.of_item[0] != found.of_item[1]


def test_a_pair_matches_at_the_levels_that_it_shares_with_a_name():
    found = tree(*SHOP)
    names = np.array([[found.of_item[0], found.find(("food", "meat"))]])
    moment = np.array([0, 0, 0, 0, -1])
    node = found.of_item[[0, 1, 2, 3, 0]]
    assert matches(found, names, moment, node).tolist() == [
        [1, 1, 1],  # milk: named in full
        [1, 1, 0],  # eggs: dairy by way of milk
        [1, 1, 0],  # ham: meat was named, not ham
        [0, 0, 0],  # no category
        [0, 0, 0],  # no text
    ]


def test_unknown_names_match_nothing():
    found = tree(*SHOP)
    none = np.full((1, 3), NOTHING)
    assert not matches(found, none, np.zeros(4, dtype=int), found.of_item).any()


def test_a_log_with_one_level_has_one_to_look_at():
    found = tree(("Drama",), ("Comedy",))
    assert deepest_two(found, found.of_item) == [0]
    assert deepest_two(tree(*SHOP), tree(*SHOP).of_item) == [2, 1]
