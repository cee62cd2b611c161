import numpy as np
import pyarrow as pa
import pytest

from taiji import schema
from taiji.ranking.categories import NOTHING, Categories
from taiji.ranking.named import NameReader, as_rows, nearest_categories

ROWS = [
    ("Oat drink, 1 l", "Food", "Drinks", "Oat drinks"),
    ("Skim milk", "Food", "Dairy", "Milk"),
    ("Puppy chow", "Pets", "Dogs", "Dog food"),
]


@pytest.fixture
def items():
    rows = [
        {
            "item_id": f"i{n}",
            "title": title,
            "category_l1": l1,
            "category_l2": l2,
            "category_l3": l3,
            "brand": None,
        }
        for n, (title, l1, l2, l3) in enumerate(ROWS)
    ]
    return pa.Table.from_pylist(rows, schema.ITEMS)


@pytest.fixture
def tree(items):
    return Categories.from_items(items)


@pytest.fixture
def reader(items, tree):
    return NameReader(items, tree)


def said(tree, nodes):
    return [tree.paths[node][-1] for node in nodes]


def test_an_answer_in_the_papers_form_names_its_category(reader, tree):
    answer = "Whole milk; Food; Dairy; Milk"
    assert said(tree, reader.read(answer, answer)) == ["milk"]


def test_lines_with_the_path_first_are_read_in_their_order_and_once(reader, tree):
    answer = "Pets; Dogs; Dog food; any\nFood; Dairy; Milk; Skim milk\nPets; Dogs; Dog food; other"
    assert said(tree, reader.read(answer, answer)) == ["dog food", "milk"]


def test_a_path_first_is_read_as_one_where_a_second_level_is_also_a_first(items):
    rows = [*items.to_pylist(), items.to_pylist()[0] | {"item_id": "i9", "category_l1": "Drinks"}]
    both = pa.Table.from_pylist(rows, schema.ITEMS)
    tree = Categories.from_items(both)
    (node,) = NameReader(both, tree).read("Food; Drinks; Oat drinks; Oat drink, 1 l", "x")
    assert tree.paths[node] == ("food", "drinks", "oat drinks")


def test_of_an_answer_that_was_cut_off_the_lines_that_are_there_count(reader, tree):
    text = "<think>\nMilk?\n</think>\n<answer>\nPets; Dogs; Dog food; any\nFood; Dairy; Mi"
    assert said(tree, reader.read("", text)) == ["dog food", "dairy"]


def test_a_known_title_alone_stands_for_its_category(reader, tree):
    assert said(tree, reader.read("skim  MILK", "x")) == ["milk"]


def test_a_path_that_goes_astray_counts_as_far_as_it_is_known(reader, tree):
    assert said(tree, reader.read("Brie; Food; Dairy; Cheese", "x")) == ["dairy"]


def test_free_text_names_what_stands_in_it_word_for_word(reader, tree):
    text = "He wants dog food today, oat drinks later, and no milkshake."
    assert said(tree, reader.read("", text)) == ["dog food", "oat drinks"]


def test_a_text_about_nothing_names_nothing(reader):
    assert reader.read("", "The weather is nice.") == []


def encode(texts):
    marks = {"dog": 0, "pup": 0, "milk": 1, "cow": 1, "oat": 2}
    vectors = np.zeros((len(texts), 3), dtype=np.float32)
    for row, text in enumerate(texts):
        for mark, place in marks.items():
            vectors[row, place] += mark in text
    return vectors


def test_what_is_written_later_moves_no_name(tree):
    """Both categories are as near to the first text; whichever the later one names is no news."""
    for later in ("a pup", "a cow"):
        written = np.array([1, 2])
        found = nearest_categories(["a dog and milk", later], written, tree, encode, 2)
        alone = nearest_categories(["a dog and milk"], written[:1], tree, encode, 2)
        assert found[0].tolist() == alone[0].tolist()


def test_what_everybody_had_written_by_then_is_held_against_a_category(tree):
    written = np.array([2, 1, 1])
    found = nearest_categories(["a dog and milk", "a pup", "a pup"], written, tree, encode, 1)
    assert said(tree, found[0]) == ["milk"]


def test_the_nearest_categories_are_those_of_any_sentence(tree):
    written = np.zeros(3, dtype=np.int64)
    found = nearest_categories(["A pup came. Hello.", "The cow!", ""], written, tree, encode, 1)
    assert [tree.paths[n][-1] if n != NOTHING else None for n in found[:, 0]] == [
        "dog food",
        "milk",
        None,
    ]


def test_lists_of_names_lie_side_by_side():
    assert as_rows([[4, 2], [], [7]]).tolist() == [[4, 2], [-1, -1], [7, -1]]
    assert as_rows([]).shape == (0, 1)
