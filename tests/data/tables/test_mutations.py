"""Everything that can be wrong with the input: each is said or counted, and nothing is lost."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_shop import ITEMS, ORDERS, prepared, said, shop, write_shop

from taiji.config import DataSection
from taiji.data.engine.duckdb_engine import DuckDbEngine
from taiji.data.problems import MOST_KEPT, UnusableError
from taiji.data.tables.canonical import prepare

LINE = "bob,rug,2024-02-05T09:30:00Z,o3,1,80.00\n"


def order(**changes):
    row = dict(zip(ORDERS.split("\n", 1)[0].split(","), LINE.strip().split(","), strict=True))
    return ",".join((row | changes).values()) + "\n"


ROW_FAULTS = {
    "E103 no user_id": order(customer=""),
    "E103 no item_id": order(sku="  "),
    "E103 no ts": order(when=""),
    "E103 no quantity": order(pieces=""),
    "E102 time cannot be read": order(when="yesterday"),
    "E102 quantity is not a number": order(pieces="two"),
    "E102 price is not a number": order(amount="free"),
    "E102 row has 7 columns instead of 6": LINE.strip() + ",more\n",
    "E102 row has 1 columns instead of 6": "torn\n",
    "E106 item not in the catalogue": order(sku="ghost"),
    "E109 time without a zone": order(when="2024-02-05T09:30:00"),
    "E109 time outside 1990-01-01 to 2025-01-01": order(when="2999-02-05T09:30:00Z"),
    "E111 quantity is no positive whole number": order(pieces="-1"),
    "E111 price is not positive": order(amount="-80"),
}
ITEM_FAULTS = {
    "E103 no item_id": ",Ghost,Kitchen\n",
    "E104 blank title": "cup, \t ,Kitchen\n",
    "E104 title over 4096 characters": f"cup,{'x' * 1_000_000},Kitchen\n",
    "E105 repeated item_id, same row": "rug,Rug,\n",
    "E105 repeated item_id, different row": "rug,Carpet,\n",
    "E110 a category level is missing above another": "cup,Cup,Kitchen >  > Iron\n",
}


def test_each_bad_order_is_counted_told_and_kept_to_be_looked_at(tmp_path):
    write_shop(tmp_path, orders=ORDERS + "".join(ROW_FAULTS.values()))
    result, tables = prepared(shop(tmp_path), tmp_path / "out")
    assert result.counts["interactions"] == {"kept": 4} | dict.fromkeys(ROW_FAULTS, 1)
    assert len(tables["interactions"]) == 4
    rows = {row["reason"]: (row["file"], row["row"]) for row in tables["quarantine"]}
    assert rows == {fault: ("orders.csv", n) for n, fault in enumerate(ROW_FAULTS, start=6)}
    lines = said(result)
    for number, fault in enumerate(ROW_FAULTS, start=6):
        assert f"{fault}: 1 of 18 rows (5.56%), such as orders.csv row {number}" in lines
    assert all(problem.mend and not problem.fatal for problem in result.problems)


def test_each_bad_item_is_counted_told_and_kept_to_be_looked_at(tmp_path):
    write_shop(tmp_path, items=ITEMS + "".join(ITEM_FAULTS.values()))
    result, tables = prepared(shop(tmp_path), tmp_path / "out")
    assert result.counts["items"] == {"kept": 3} | dict.fromkeys(ITEM_FAULTS, 1)
    rows = {row["reason"]: row["row"] for row in tables["quarantine"]}
    assert rows == {fault: number for number, fault in enumerate(ITEM_FAULTS, start=5)}
    assert max(len(row["value"] or "") for row in tables["quarantine"]) <= 200


def test_more_than_the_tolerance_is_an_error_that_names_all(tmp_path):
    fault = "E106 item not in the catalogue"
    write_shop(
        tmp_path, items=ITEMS + ITEM_FAULTS["E104 blank title"], orders=ORDERS + ROW_FAULTS[fault]
    )
    section = DataSection.model_validate({"source": shop(tmp_path, tolerance=0.19)})
    engine = DuckDbEngine(tmp_path / "scratch")
    with pytest.raises(UnusableError) as caught:
        prepare(engine, section, 17, tmp_path)
    engine.close()
    assert fault in str(caught.value)
    assert "E104 blank title" in str(caught.value)
    assert len(caught.value.problems) == 2


def test_the_good_row_of_two_with_one_id_stays(tmp_path):
    write_shop(tmp_path, items="sku,name,path\nmug,,x\nmug,Mug,x\nmug,Mugs,y\npot,P,\nrug,R,\n")
    result, tables = prepared(shop(tmp_path), tmp_path / "out")
    assert [row["title"] for row in tables["items"]] == ["Mug", "P", "R"]
    assert result.counts["items"] == {
        "E104 blank title": 1,
        "E105 repeated item_id, different row": 1,
        "kept": 3,
    }


def test_repeated_event_ids_are_one_event(tmp_path):
    orders = ORDERS.replace("order", "event") + "bob,rug,2024-02-06T09:30:00Z,o3,1,80.00\n"
    write_shop(
        tmp_path,
        orders=orders.replace("ann,pot,2024-01-03T10:00:00Z,o1", "ann,pot,2024-01-03T10:00:00Z,"),
    )
    change = {"order_id": None, "event_id": "event"}
    result, _ = prepared(shop(tmp_path, interactions=change), tmp_path / "out")
    assert result.counts["interactions"] == {
        "kept": 3,
        "E103 no event_id": 1,
        "E105 repeated event_id, different row": 1,
    }


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("customer,sku,order,pieces,amount", "no column when: columns here: amount, customer"),
        ("custumer,sku,when,order,pieces,amount", "no column customer: did you mean custumer?"),
        ("sku,sku,when,order,pieces,amount", "two columns are called sku"),
    ],
)
def test_a_missing_or_renamed_column_is_an_error(tmp_path, header, message):
    write_shop(tmp_path, orders=header + "\n" + LINE)
    with pytest.raises(UnusableError, match="E101") as caught:
        prepared(shop(tmp_path), tmp_path / "out")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        (
            pa.array([1704276000]),
            {},
            "ts (column when): E109 holds numbers: set format: s, ms or us",
        ),
        (pa.array([0], pa.timestamp("us")), {}, "E109 times carry no zone: set timezone"),
        (pa.array([0], pa.timestamp("us", "UTC")), {"format": "s"}, "E109 holds times already"),
        (pa.array([[1]]), {}, "E102 holds lists: "),
        (pa.array([{"a": 1}]), {}, "E102 holds struct<a: int64>: "),
        (pa.array([[[1]]]), {}, "E102 holds list<"),
        (pa.array([1], pa.duration("s")), {}, "E102 holds duration[s]: "),
        (pa.array([1], pa.time32("s")), {}, "E102 holds time32[ms]: "),
    ],
)
def test_a_retyped_column_is_an_error(tmp_path, column, change, message):
    write_shop(tmp_path)
    log = pa.table({"customer": ["ann"], "sku": ["mug"], "when": column})
    pq.write_table(log, tmp_path / "orders.parquet")
    table = {"files": "orders.parquet", "order_id": None, "quantity": None, "price": None}
    with pytest.raises(UnusableError) as caught:
        prepared(
            shop(tmp_path, interactions=table | {"ts": {"column": "when"} | change}),
            tmp_path / "out",
        )
    assert message in str(caught.value)


def test_a_column_of_two_types_in_two_files_is_an_error(tmp_path):
    write_shop(tmp_path)
    for number, value in enumerate((1, "x")):
        pq.write_table(pa.table({"sku": [value]}), tmp_path / f"i{number}.parquet")
    with pytest.raises(UnusableError, match="column sku holds string, other files int64"):
        prepared(shop(tmp_path, items={"files": "i*.parquet"}), tmp_path / "out")


@pytest.mark.parametrize("name", ["orders.parquet", "orders.csv.gz", "orders.xlsx"])
def test_a_damaged_or_unknown_file_is_an_error(tmp_path, name):
    write_shop(tmp_path)
    (tmp_path / name).write_bytes(b"not what it says")
    with pytest.raises(UnusableError, match=rf"{name}: E10[12]"):
        prepared(shop(tmp_path, interactions={"files": name}), tmp_path / "out")


def test_parquet_whose_text_is_no_text_is_an_error_that_names_it(tmp_path):
    write_shop(tmp_path)
    bad = pa.array([b"mug", b"caf\xe9"]).view(pa.string())
    pq.write_table(pa.table({"sku": ["mug", "pot"], "name": bad}), tmp_path / "items.parquet")
    items = {"files": "items.parquet", "categories": None}
    with pytest.raises(UnusableError, match=r"items\.parquet: E102 cannot be read .*UTF"):
        prepared(shop(tmp_path, items=items), tmp_path / "out")


def test_a_table_that_the_engine_does_not_know_is_an_error(tmp_path):
    write_shop(tmp_path)
    with pytest.raises(UnusableError, match=r"lake\.items: E101 cannot be read"):
        prepared(shop(tmp_path, items={"files": None, "table": "lake.items"}), tmp_path / "out")


def test_milliseconds_taken_for_seconds_are_told(tmp_path):
    orders = "customer,sku,when,order,pieces,amount\nann,mug,1704276000000,o1,1,2\n"
    write_shop(tmp_path, orders=orders)
    change = {"ts": {"column": "when", "format": "s"}}
    result, _ = prepared(shop(tmp_path, interactions=change), tmp_path / "out")
    assert "'1704276000000': check ts.format (s, ms or us?)" in said(result)
    assert any(problem.code == "E108" and problem.fatal for problem in result.problems)


def test_nulls_everywhere(tmp_path):
    write_shop(
        tmp_path, items="sku,name,path\n,,\n,,\n", orders=ORDERS.split("\n")[0] + "\n,,,,,\n"
    )
    result, tables = prepared(shop(tmp_path), tmp_path / "out")
    assert result.counts == {
        "items": {"E103 no item_id": 2},
        "interactions": {"E103 no user_id": 1},
    }
    assert tables["items"] == tables["interactions"] == tables["users"] == []
    assert [p.where for p in result.problems if p.code == "E108"] == ["items", "interactions"]


def test_files_without_rows(tmp_path):
    write_shop(tmp_path, orders=ORDERS.split("\n")[0])
    result, _ = prepared(shop(tmp_path), tmp_path / "out")
    assert [p.code for p in result.problems] == ["E108"]


def test_bytes_that_are_no_utf_8_and_lone_surrogates_are_replaced_and_counted(tmp_path):
    write_shop(tmp_path)
    (tmp_path / "items.csv").write_bytes(
        b"sku,name,path\nmug,Caf\xe9,\npot,\xed\xa0\x80,\nrug,R,\n"
    )
    result, tables = prepared(shop(tmp_path), tmp_path / "out")
    assert [row["title"] for row in tables["items"]] == ["Caf\ufffd", "\ufffd\ufffd\ufffd", "R"]
    (problem,) = result.problems
    assert (problem.code, problem.fatal) == ("W210", False)
    assert "4 characters are no utf-8" in str(problem)
    assert "items.csv, line 2: set encoding" in str(problem)
    encoded = shop(tmp_path, items={"encoding": "latin-1"})
    assert prepared(encoded, tmp_path / "b")[1]["items"][0]["title"] == "Café"
    (tmp_path / "items.jsonl").write_text('{"sku":"mug","name":"a\\ud800b","path":null}\n')
    result, tables = prepared(shop(tmp_path, items={"files": "items.jsonl"}), tmp_path / "c")
    assert tables["items"][0]["title"] == "a\ufffdb"
    assert "W210" in said(result)


def test_a_stray_quote_that_swallows_the_file_is_not_silent(tmp_path):
    write_shop(tmp_path, orders=ORDERS + 'eve,"mug,2024-02-05T09:30:00Z,o3,1,80.00\n' + LINE * 3)
    result, _ = prepared(shop(tmp_path), tmp_path / "out")
    assert result.counts["interactions"]["kept"] == 4
    assert any(reason.startswith("E102 row has") for reason in result.counts["interactions"])


def test_counts_are_exact_beyond_what_is_kept_to_be_looked_at(tmp_path):
    bad = order(customer="") * (MOST_KEPT + 7) + "torn\n" * (MOST_KEPT + 9)
    write_shop(tmp_path, orders=ORDERS + bad)
    result, tables = prepared(shop(tmp_path), tmp_path / "out")
    assert result.counts["interactions"] == {
        "kept": 4,
        "E103 no user_id": MOST_KEPT + 7,
        "E102 row has 1 columns instead of 6": MOST_KEPT + 9,
    }
    assert len(tables["quarantine"]) == 2 * MOST_KEPT


def test_no_row_is_ever_lost(tmp_path):
    """A thousand orders, each perhaps broken somehow: every row is in exactly one count."""
    rng = random.Random(3)
    lines = [
        rng.choice([LINE, ORDERS.splitlines(True)[1], *ROW_FAULTS.values()]) for _ in range(1000)
    ]
    write_shop(tmp_path, orders=ORDERS.splitlines(True)[0] + "".join(lines))
    result, tables = prepared(shop(tmp_path), tmp_path / "out")
    assert sum(result.counts["interactions"].values()) == 1000
    assert set(result.counts["interactions"]) >= set(ROW_FAULTS)
    rows = [row["row"] for row in tables["quarantine"]]
    assert len(rows) == len(set(rows))
    expected = [n for n, line in enumerate(lines, start=2) if line in ROW_FAULTS.values()]
    assert sorted(rows) == expected


def test_twice_the_same_files_give_the_same_bytes(tmp_path):
    write_shop(tmp_path, orders=ORDERS + "".join(ROW_FAULTS.values()))
    for name in ("a", "b"):
        prepared(shop(tmp_path), tmp_path / name)
    for path in (tmp_path / "a").glob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
