"""What was meant by a column that is not there."""

import pytest
from data_shop import ITEMS, ORDERS, prepared, shop, write_shop

from taiji.data.problems import UnusableError
from taiji.data.tables.absent import no_such_column


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_another_separator_is_recognised(tmp_path, sign):
    write_shop(tmp_path, orders=ORDERS.replace(",", sign))
    written = '"\\\\t"' if sign == "\t" else f"'{sign}'".replace("|", "\\|")
    with pytest.raises(UnusableError, match=rf"one column with .* set separator: {written}"):
        prepared(shop(tmp_path), tmp_path / "out")


@pytest.mark.parametrize(
    ("asked", "columns", "answer"),
    [
        ("title", ["Title", "tile"], "did you mean Title? Names count letter for letter"),
        ("item id", ["item_id"], "did you mean item_id? Names count letter for letter"),
        ("brand", ["details", "details.Brand"], "it lies inside another: write details.Brand"),
        ("nmae", ["name", "sku"], "did you mean name?"),
        ("zzz", ["name", "sku"], "columns here: name, sku"),
    ],
)
def test_what_was_meant(asked, columns, answer):
    assert no_such_column(asked, columns) == answer


def test_a_name_in_other_letters_is_told(tmp_path):
    write_shop(tmp_path, items=ITEMS.replace("name", "Name", 1))
    with pytest.raises(UnusableError, match="no column name: did you mean Name"):
        prepared(shop(tmp_path), tmp_path / "out")
