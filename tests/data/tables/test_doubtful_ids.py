"""Items out of lines of orders, and ids and titles that look like one and are two."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_shop import ORDERS, prepared, said, shop, write_shop

from taiji.data.problems import UnusableError
from taiji.data.tables.rules import FURTHER

# As tills write it: every line names its product, staff leave notes, a line has no name at all.
LINES = (
    "customer,sku,what,when,order,pieces,amount\n"
    "ann,mug,Blue mug,2024-01-03T10:00:00Z,o1,1,10\n"
    "bob,mug,damaged,2024-01-04T10:00:00Z,o2,1,10\n"
    "cid,mug,BLUE  MUG,2024-01-05T10:00:00Z,o3,1,10\n"
    "ann,mug,Blue mug,2024-01-06T10:00:00Z,o4,1,10\n"
    "bob,mug,,2024-01-07T10:00:00Z,o5,1,10\n"
    "bob,pot,Tea pot,2024-01-07T10:00:00Z,o5,1,30\n"
)


def sold(tmp_path, **items):
    (tmp_path / "orders.csv").write_text(LINES)
    return shop(
        tmp_path, items={"files": "orders.csv", "title": "what", "categories": None} | items
    )


@pytest.mark.parametrize(
    ("repeated", "title"),
    [("most_frequent", "Blue mug"), ("last", "Blue mug"), ("first", "Blue mug")],
)
def test_an_item_takes_its_title_from_one_of_its_lines(tmp_path, repeated, title):
    source = sold(tmp_path, repeated=repeated) | {"tolerance": 0.0}
    result, tables = prepared(source, tmp_path / "out")
    assert [row["title"] for row in tables["items"]] == [title, "Tea pot"]
    # The line without a name is no blank title: others name the item.
    assert result.counts["items"] == {"kept": 2, FURTHER: 4}
    assert not any(problem.fatal for problem in result.problems)
    assert len(tables["interactions"]) == 6


def test_first_and_last_go_by_the_place_of_the_row(tmp_path):
    lines = LINES.splitlines()
    (tmp_path / "orders.csv").write_text("\n".join([lines[0], lines[2], lines[1], lines[6], ""]))
    for repeated, title in (("first", "damaged"), ("last", "Blue mug")):
        items = {"files": "orders.csv", "title": "what", "categories": None, "repeated": repeated}
        _, tables = prepared(shop(tmp_path, items=items), tmp_path / repeated)
        assert tables["items"][0]["title"] == title


def test_both_titles_stand_in_the_quarantine_and_are_told(tmp_path):
    result, tables = prepared(sold(tmp_path, repeated="most_frequent"), tmp_path / "out")
    values = {row["value"] for row in tables["quarantine"]}
    assert "damaged | kept: Blue mug" in values
    assert "W219 1 items have titles that differ in words" in said(result)
    assert "mug: 'BLUE  MUG' and 'damaged'" in said(result)  # capitals and blanks are no words


def test_without_a_choice_a_different_row_is_a_fault_that_shows_both_titles(tmp_path):
    source = sold(tmp_path) | {"tolerance": 0.0}
    result, _ = prepared(source, tmp_path / "out")
    (problem,) = [p for p in result.problems if "different row" in str(p)]
    assert problem.fatal
    assert "damaged | kept: Blue mug" in str(problem)
    assert "items.repeated: most_frequent" in said(result)


@pytest.mark.parametrize(
    ("ids", "told"), [(("A1", "a1"), "'A1' and 'a1'"), (("a1", "a1"), ""), (("7", "7.0"), "")]
)
def test_ids_that_differ_in_case_are_told_and_a_trailing_zero_is_one_id(tmp_path, ids, told):
    rows = "".join(f"{who},mug,2024-01-0{n}T10:00:00Z,o{n},1,5\n" for n, who in enumerate(ids, 1))
    write_shop(tmp_path, orders=ORDERS + rows)
    result, tables = prepared(shop(tmp_path), tmp_path / "out")
    assert len(tables["users"]) == 2 + (2 if told else 1)
    assert told in said(result)
    assert bool(told) == ("W220" in said(result))


def test_profiles_whose_ids_are_in_capitals_are_an_error_that_names_the_case(tmp_path):
    write_shop(tmp_path)
    (tmp_path / "people.csv").write_text("id,town\nANN,Bonn\nBOB,Köln\n", "utf-8")
    people = {"files": "people.csv", "user_id": "id", "profile": {"city": "town"}}
    result, _ = prepared(shop(tmp_path, users=people), tmp_path / "out")
    assert {"E114", "W220"} <= {problem.code for problem in result.problems}


def test_a_product_in_other_letters_than_the_catalogue_is_told(tmp_path):
    write_shop(tmp_path, orders=ORDERS.replace("bob,mug", "bob,MUG"))
    result, _ = prepared(shop(tmp_path), tmp_path / "out")
    assert "item_id: W220 2 ids differ from another in case alone" in said(result)


def test_rows_of_parquet_have_no_first_and_no_last(tmp_path):
    rows = [{"sku": "mug", "name": name} for name in ("Blue mug", "damaged", "Blue mug")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "items.parquet")
    write_shop(tmp_path, orders=ORDERS.replace("pot", "mug").replace("rug", "mug"))
    items = {"files": "items.parquet", "categories": None}
    with pytest.raises(UnusableError, match="choose most_frequent"):
        prepared(shop(tmp_path, items=items | {"repeated": "first"}), tmp_path / "out")
    source = shop(tmp_path, items=items | {"repeated": "most_frequent"})
    _, tables = prepared(source, tmp_path / "out")
    assert [row["title"] for row in tables["items"]] == ["Blue mug"]
