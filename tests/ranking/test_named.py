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


def test_a_known_title_alone_stands_for_its_category(reader, tree):
    assert said(tree, reader.read("skim  MILK", "x")) == ["milk"]


def test_a_path_that_goes_astray_counts_as_far_as_it_is_known(reader, tree):
    assert said(tree, reader.read("Brie; Food; Dairy; Cheese", "x")) == ["dairy"]


def test_free_text_names_what_stands_in_it_word_for_word(reader, tree):
    text = "He wants dog food today, oat drinks later, and no milkshake."
    assert said(tree, reader.read("", text)) == ["dog food", "oat drinks"]


def test_a_text_about_nothing_names_nothing(reader):
    assert reader.read("", "The weather is nice.") == []


def test_the_nearest_categories_are_those_of_any_sentence(tree):
    def encode(texts):
        marks = {"dog": 0, "pup": 0, "milk": 1, "cow": 1, "oat": 2}
        vectors = np.zeros((len(texts), 3), dtype=np.float32)
        for row, text in enumerate(texts):
            for mark, place in marks.items():
                vectors[row, place] += mark in text
        return vectors

    found = nearest_categories(["A pup came. Hello.", "The cow!", ""], tree, encode, 1)
    assert [tree.paths[n][-1] if n != NOTHING else None for n in found[:, 0]] == [
        "dog food",
        "milk",
        None,
    ]


def test_lists_of_names_lie_side_by_side():
    assert as_rows([[4, 2], [], [7]]).tolist() == [[4, 2], [-1, -1], [7, -1]]
    assert as_rows([]).shape == (0, 1)
