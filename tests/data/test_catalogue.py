from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from taiji import schema
from taiji.data.catalogue import coverage, popular_items

START = datetime(2017, 1, 1, tzinfo=UTC)


def items(**titles: str) -> pa.Table:
    rows = [
        {"item_id": item, "title": title, "category_l1": "G", "category_l2": None}
        | {"category_l3": None, "brand": None}
        for item, title in titles.items()
    ]
    return pa.Table.from_pylist(rows, schema.ITEMS)


def sold(*rows: tuple[str, int]) -> pa.Table:
    return pa.table(
        {
            "item_id": [item for item, _ in rows],
            "ts": pa.array([START + timedelta(days=day) for _, day in rows], schema.TIME),
        }
    )


def test_holds_the_most_sold_titles_most_sold_first():
    catalogue = popular_items(
        items(a="Tea", b="Milk", c="Bread", d="Never sold"),
        sold(("a", 0), ("b", 0), ("b", 1), ("c", 1)),
        before=START + timedelta(days=5),
        size=2,
    )
    assert catalogue["title"].to_pylist() == ["Milk", "Tea"]  # tea and bread tie: smaller id
    assert catalogue.column_names == schema.ITEMS.names


def test_what_is_sold_from_the_test_window_on_does_not_count():
    log = sold(("a", 0), ("b", 5), ("b", 6))
    catalogue = popular_items(
        items(a="Tea", b="Milk"), log, before=START + timedelta(days=5), size=9
    )
    assert catalogue["title"].to_pylist() == ["Tea"]


@pytest.mark.parametrize("twin", ["TEA", " tea ", "Tea\u200b"])
def test_one_row_per_title_as_answers_write_it(twin):
    log = sold(("a", 0), ("b", 0), ("b", 1))
    catalogue = popular_items(items(a=twin, b="Tea"), log, before=START + timedelta(days=5), size=9)
    assert catalogue["item_id"].to_pylist() == ["b"]


def test_coverage_is_the_share_of_titles_inside():
    catalogue = items(a="Tea", b="Milk")
    assert coverage(catalogue, ["tea", "Milk", "Bread", "Salt"]) == 0.5
    assert coverage(catalogue, []) == 0.0
