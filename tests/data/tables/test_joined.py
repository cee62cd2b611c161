"""Columns that are kept in another file."""

import pytest
from data_shop import ITEMS, prepared, said, shop, write_shop

from taiji.data.problems import UnusableError

SHELVES = "product,shelf\nmug,Kitchen\nmug,Mugs\npot,Kitchen\nsofa,Living\n"


def joined(tmp_path, text=SHELVES, *, several="list", **changes):
    write_shop(tmp_path)
    (tmp_path / "shelves.csv").write_text(text)
    join = {"files": "shelves.csv", "key": "product", "of": "sku", "columns": {"where": "shelf"}}
    categories = {"column": "where", "list": several == "list"}
    return shop(
        tmp_path, items={"categories": categories, "join": join | {"several": several} | changes}
    )


def levels(tables):
    names = [f"category_l{n}" for n in (1, 2, 3)]
    return {row["item_id"]: [row[name] for name in names] for row in tables["items"]}


def test_several_rows_of_an_item_become_a_list_in_the_order_of_the_file(tmp_path):
    result, tables = prepared(joined(tmp_path), tmp_path / "out")
    assert levels(tables) == {
        "mug": ["Kitchen", "Mugs", None],
        "pot": ["Kitchen", None, None],
        "rug": [None, None, None],
    }
    assert result.problems == []
    assert result.counts["items"] == {"kept": 3}


def test_or_the_first_of_them_stands(tmp_path):
    _, tables = prepared(joined(tmp_path, several="first"), tmp_path / "out")
    assert levels(tables)["mug"] == ["Kitchen", None, None]


@pytest.mark.parametrize(
    ("ids", "code"), [(("MUG", "POT"), "E114"), (("mug", "p1", "p2", "p3"), "W213")]
)
def test_keys_that_hardly_meet_are_told(tmp_path, ids, code):
    text = "product,shelf\n" + "".join(f"{one},Kitchen\n" for one in ids)
    result, _ = prepared(joined(tmp_path, text), tmp_path / "out")
    assert code in {problem.code for problem in result.problems}
    assert "keys of items are keys of the joined file" in said(result)


def test_a_column_that_is_not_there_or_twice_there_is_named(tmp_path):
    with pytest.raises(UnusableError, match=r"join\.columns\.where: E101 no column shelves"):
        prepared(joined(tmp_path, columns={"where": "shelves"}), tmp_path / "out")
    with pytest.raises(UnusableError, match=r"join\.key: E101 no column Product: did you mean"):
        prepared(joined(tmp_path, key="Product"), tmp_path / "out")
    with pytest.raises(UnusableError, match="no such file"):
        prepared(joined(tmp_path, files="shelf.csv"), tmp_path / "out")


def test_lines_of_orders_take_from_a_file_of_orders(tmp_path):
    """Customer and time stand once an order, the products in a file of their own."""
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "lines.csv").write_text("order,sku,pieces\no1,mug,2\no1,pot,1\no2,rug,1\n")
    (tmp_path / "heads.csv").write_text(
        "no,customer,when\no1,ann,2024-01-03T10:00:00Z\no2,bob,2024-01-04T10:00:00Z\n"
    )
    columns = {"who": "customer", "moment": "when"}
    interactions = {
        **{"files": "lines.csv", "user_id": "who", "item_id": "sku", "ts": "moment"},
        **{"order_id": "order", "quantity": "pieces", "price": None},
        "join": {"files": "heads.csv", "key": "no", "of": "order", "columns": columns},
    }
    _, tables = prepared(shop(tmp_path, interactions=interactions), tmp_path / "out")
    assert [(r["user_id"], r["item_id"], r["quantity"]) for r in tables["interactions"]] == [
        ("ann", "mug", 2),
        ("ann", "pot", 1),
        ("bob", "rug", 1),
    ]


def test_the_price_of_the_shop_stands_where_nothing_was_said_of_it(tmp_path):
    write_shop(tmp_path, items="sku,name,path,asked\nmug,Blue mug,,12.50\npot,Tea pot,,call us\n")
    orders = (
        "customer,sku,when,order,pieces,amount\nann,mug,2024-01-03T10:00:00Z,o1,2,20.00\n"
        "bob,mug,2024-01-04T10:00:00Z,o2,1,\nbob,pot,2024-01-05T10:00:00Z,o3,1,\n"
        "bob,mug,2024-01-06T10:00:00Z,o4,1,free\n"
    )
    (tmp_path / "orders.csv").write_text(orders)
    result, tables = prepared(shop(tmp_path, items={"price": "asked"}), tmp_path / "out")
    assert [row["price"] for row in tables["interactions"]] == [10.0, 12.5, None]
    assert result.counts["interactions"]["E102 price is not a number"] == 1  # no shop's price
