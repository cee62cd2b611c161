import numpy as np
import pyarrow as pa
import pytest

from taiji import schema
from taiji.lists.title_lists import TitleList, Titles, interleave
from taiji.schema import OUTSIDE

SHELF = {
    "tea": ("Green tea", "Grocery", "Drinks", "Tea"),
    "mint": ("Mint tea", "Grocery", "Drinks", "Tea"),
    "cola": ("Cola", "Grocery", "Drinks", "Soda"),
    "soap": ("Soap; mild", "Drug", "Bath", None),
}
ITEMS = pa.Table.from_pylist(
    [
        {"item_id": item, "title": t, "category_l1": a, "category_l2": b, "category_l3": c}
        for item, (t, a, b, c) in SHELF.items()
    ],
    pa.schema([field for field in schema.ITEMS if field.name != "brand"]),
)
TITLES = Titles(ITEMS)
ROWS = {row["item_id"]: row for row in ITEMS.to_pylist()}


def counted(*counts: float) -> TitleList:
    return TitleList.of_counts(np.array(counts))


def test_a_list_is_judged_by_the_place_of_the_true_title_and_by_where_its_weight_lies():
    # Tea holds 2 + 3, soda 4: the first title is cola, the likeliest category is tea.
    judged = TITLES.judge(counted(2, 3, 4, 0), ROWS["mint"])
    assert judged == {
        "title_rank": 2,
        "title_exact": 0.0,
        "top_item_id": "cola",
        "category_l1": 1.0,
        "category_l2": 1.0,
        "category_l3": 1.0,
    }
    assert TITLES.judge(counted(2, 3, 4, 0), ROWS["cola"])["category_l3"] == 0.0


def test_equal_titles_rank_behind_one_another():
    ranks = [TITLES.judge(counted(1, 1, 1, 2), ROWS[i])["title_rank"] for i in ("tea", "soap")]
    assert ranks == [4, 1]


def test_what_is_not_on_the_list_or_not_in_the_catalogue_is_a_miss():
    assert TITLES.judge(counted(1, 0, 0, 0), ROWS["cola"])["title_rank"] == OUTSIDE
    rare = ROWS["tea"] | {"title": "Truffle", "category_l3": "Fungi"}
    judged = TITLES.judge(counted(1, 0, 0, 0), rare)
    assert (judged["title_rank"], judged["category_l2"], judged["category_l3"]) == (OUTSIDE, 1, 0)


def test_an_empty_list_guesses_nothing():
    judged = TITLES.judge(counted(0, 0, 0, 0), ROWS["soap"])
    assert judged["top_item_id"] is None
    assert (judged["title_exact"], judged["category_l1"], judged["category_l3"]) == (0, 0, None)


def test_struck_out_titles_have_neither_place_nor_weight():
    listed = counted(2, 3, 4, 0).without(np.array([False, False, True, False]))
    assert listed.first == 1
    assert TITLES.judge(listed, ROWS["cola"])["title_rank"] == OUTSIDE
    assert TITLES.category(3, listed.mass_C) == ("grocery", "drinks", "tea")


def test_an_item_of_another_category_stands_under_its_title():
    items = ITEMS.append_column("brand", pa.nulls(4, pa.string()))
    twin = pa.Table.from_pylist(
        [ROWS["tea"] | {"item_id": "x", "title": "GREEN TEA"}], items.schema
    )
    assert TITLES.places(twin) == {"x": 0}


def test_each_title_is_told_how_much_its_category_holds():
    assert TITLES.category_mass(3, np.array([1.0, 2, 4, 8])).tolist() == [3, 3, 4, 0]
    assert TITLES.category_mass(1, np.array([1.0, 2, 4, 8])).tolist() == [7, 7, 7, 8]


@pytest.mark.parametrize(("size", "dealt"), [(3, [5, 1, 2]), (9, [5, 1, 2, 3])])
def test_orders_are_dealt_out_by_turns(size, dealt):
    orders = [np.array([5, 2]), np.array([1, 5, 3])]
    assert interleave(orders, size).tolist() == dealt
