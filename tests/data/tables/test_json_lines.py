"""JSON lines: lists become rows, and columns that lie deeper are found."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_shop import ITEMS, prepared, said, shop

from taiji.data.problems import UnusableError

NAMES = ["sku", "count.pieces"]
ORDER = {"user": {"name": "ann"}, "at": "2024-01-03T10:00:00Z"}


def orders(tmp_path, *rows, names=NAMES, **changes):
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "orders.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    interactions = {
        **{"files": "orders.jsonl", "user_id": "user.name", "ts": "at", "item_id": "sku"},
        **{"order_id": None, "price": None, "quantity": "count.pieces"},
        "explode": {"column": "lines", "names": names},
    }
    return shop(tmp_path, interactions=interactions | changes)


def test_a_list_of_objects_gives_a_row_an_entry(tmp_path):
    lines = [
        {"sku": "mug", "count": {"pieces": 2}, "note": "a b-c"},
        {"sku": "pot", "count": {"pieces": 1}},
    ]
    source = orders(tmp_path, ORDER | {"lines": lines}, ORDER | {"lines": lines[:1]})
    _, tables = prepared(source, tmp_path / "out")
    assert [(r["item_id"], r["quantity"]) for r in tables["interactions"]] == [
        ("mug", 4),  # twice at one moment
        ("pot", 1),
    ]


def test_a_list_of_words_and_a_text_that_is_cut(tmp_path):
    changes = {"quantity": None}
    source = orders(tmp_path, ORDER | {"lines": ["mug", "pot"]}, names=["sku"], **changes)
    _, tables = prepared(source, tmp_path / "words")
    assert {row["item_id"] for row in tables["interactions"]} == {"mug", "pot"}
    source = orders(tmp_path, ORDER | {"lines": "mug-1 pot-3"})
    _, tables = prepared(source, tmp_path / "text")
    assert {(r["item_id"], r["quantity"]) for r in tables["interactions"]} == {
        ("mug", 1),
        ("pot", 3),
    }


def test_an_empty_list_is_a_row_without_an_item_and_a_deeper_one_is_refused(tmp_path):
    deep = [{"sku": ["mug"], "count": {"pieces": 1}}]
    source = orders(tmp_path, ORDER | {"lines": []}, ORDER | {"lines": deep}, ORDER)
    result, tables = prepared(source, tmp_path / "out")
    assert tables["interactions"] == []
    assert result.counts["interactions"]["E103 no item_id"] == 2
    assert result.counts["interactions"]["E102 lines holds nested values"] == 1


def test_a_sign_of_ours_in_the_data_makes_no_row(tmp_path):
    lines = [{"sku": "mug\x1epot\x1f1", "count": {"pieces": 1}}]
    result, tables = prepared(orders(tmp_path, ORDER | {"lines": lines}), tmp_path / "out")
    assert tables["interactions"] == []
    assert result.counts["interactions"]["E106 item not in the catalogue"] == 1
    assert "mug" in said(result)


def test_a_list_of_parquet_gives_a_row_an_entry_too(tmp_path):
    (tmp_path / "items.csv").write_text(ITEMS)
    rows = [
        {"who": "ann", "at": "2024-01-03T10:00:00Z", "shown": ["mug", "pot"]},
        {"who": "bob", "at": "2024-01-04T10:00:00Z", "shown": []},
        {"who": "cid", "at": "2024-01-05T10:00:00Z", "shown": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "shown.parquet")
    interactions = {
        **{"files": "shown.parquet", "user_id": "who", "ts": "at", "order_id": None},
        **{"price": None, "quantity": None, "explode": {"column": "shown", "names": ["sku"]}},
    }
    result, tables = prepared(shop(tmp_path, interactions=interactions), tmp_path / "out")
    found = [(row["user_id"], row["item_id"]) for row in tables["interactions"]]
    assert found == [("ann", "mug"), ("ann", "pot")]
    assert result.counts["interactions"]["E103 no item_id"] == 2


def test_a_column_that_lies_deeper_is_named(tmp_path):
    source = orders(tmp_path, ORDER | {"lines": []}, user_id="name")
    with pytest.raises(UnusableError, match=r"it lies inside another: write user\.n"):
        prepared(source, tmp_path / "out")
