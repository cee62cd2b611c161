"""Described tables become canonical ones: fields, units, templates, order of merging."""

import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_shop import ORDERS, prepared, said, shop, write_shop
from pyarrow import csv
from pydantic import ValidationError

from taiji.config.mapping_fields import CategoryField, NumberField, TextField, TimeField
from taiji.data.engine.duckdb_engine import DuckDbEngine
from taiji.data.problems import UnusableError
from taiji.data.tables.expressions import Columns


def test_the_place_of_a_line_is_its_number_and_a_note_is_kept(tmp_path):
    orders = (
        "customer,sku,when,order,pieces,amount,no,stars\n"
        "ann,mug,2024-01-03T10:00:00Z,o1,1,5,2,4\nann,pot,2024-01-03T10:00:00Z,o1,1,5,1,\n"
    )
    write_shop(tmp_path, orders=orders)
    note = {"template": "rated {stars}"}
    _, tables = prepared(shop(tmp_path, interactions={"note": note}), tmp_path / "rows")
    assert [(r["line"], r["note"]) for r in tables["interactions"]] == [
        (None, "rated 4"),
        (None, None),
    ]
    placed = shop(tmp_path, interactions={"note": note, "in_file_order": True})
    _, tables = prepared(placed, tmp_path / "placed")
    assert [(r["item_id"], r["line"]) for r in tables["interactions"]] == [("mug", 2), ("pot", 3)]
    source = shop(tmp_path, interactions={"line": "no"})
    _, tables = prepared(source, tmp_path / "numbers")
    assert [row["line"] for row in tables["interactions"]] == [2, 1]
    write_shop(tmp_path, orders=orders.replace("o1,1,5,1,", "o1,1,5,first,"))
    result, _ = prepared(source, tmp_path / "words")
    assert result.counts["interactions"]["E102 line is not a number"] == 1


def moment(*parts):
    return datetime(*parts, tzinfo=UTC)


def evaluate(tmp_path, values, expression, kind="text", missing=()):
    """Values of one column `c`, as an expression over it sees them."""
    engine = DuckDbEngine(tmp_path / "scratch")
    engine.register("t", pa.table({"n": range(len(values)), "c": values}))
    sql = expression(Columns({"c": kind, "n": "whole"}, missing))
    column = engine.query(f"SELECT {sql} AS found, n FROM t ORDER BY n")["found"].to_pylist()
    engine.close()
    return column


def test_a_shop_of_two_files_by_hand(tmp_path):
    result, tables = prepared(shop(write_shop(tmp_path)), tmp_path / "out")
    assert tables["items"][0] == {
        "item_id": "mug",
        "title": "Blue mug",
        "category_l1": "Kitchen",
        "category_l2": "Mugs",
        "category_l3": None,
        "brand": None,
    }
    assert [tuple(row.values()) for row in tables["interactions"]] == [
        # 20.00 for two pieces
        ("ann", "mug", moment(2024, 1, 3, 10), "o1", "purchase", 2, 10.0, None, None),
        ("ann", "pot", moment(2024, 1, 3, 10), "o1", "purchase", 1, 30.0, None, None),
        ("bob", "mug", moment(2024, 2, 4, 9, 30), "o2", "purchase", 1, 9.5, None, None),
        ("bob", "rug", moment(2024, 2, 5, 9, 30), "o3", "purchase", 1, 80.0, None, None),
    ]
    assert [row["user_id"] for row in tables["users"]] == ["ann", "bob"]
    assert [row["fields"] for row in tables["users"]] == [[], []]
    assert tables["exposures"] == tables["events"] == tables["quarantine"] == []
    assert result.counts == {"items": {"kept": 3}, "interactions": {"kept": 4}}
    assert result.problems == []


MOMENTS = [
    ("1704276000", {"format": "s"}, moment(2024, 1, 3, 10)),
    ("1704276000.5", {"format": "s"}, moment(2024, 1, 3, 10, 0, 0, 500_000)),
    ("1704276000123", {"format": "ms"}, moment(2024, 1, 3, 10, 0, 0, 123_000)),
    ("1704276000123456", {"format": "us"}, moment(2024, 1, 3, 10, 0, 0, 123_456)),
    ("2024-01-03", {"timezone": "UTC"}, moment(2024, 1, 3)),
    ("2024-01-03 10:00", {"timezone": "Europe/Berlin"}, moment(2024, 1, 3, 9)),
    ("2024-07-03 10:00", {"timezone": "Europe/Berlin"}, moment(2024, 7, 3, 8)),
    # An offset in the text is stronger than the recipe's zone.
    ("2024-01-03T10:00:00+02:00", {"timezone": "Asia/Tokyo"}, moment(2024, 1, 3, 8)),
    ("2024-01-03T10:00:00Z", {}, moment(2024, 1, 3, 10)),
    ("3/1/2024", {"format": "%d/%m/%Y", "timezone": "UTC"}, moment(2024, 1, 3)),
    ("01/03/2024 12:05:09 AM", {"format": "%m/%d/%Y %I:%M:%S %p"}, moment(2024, 1, 3, 0, 5, 9)),
    (
        "01/03/2024 12:05:09 PM",
        {"format": "%m/%d/%Y %I:%M:%S %p"},
        moment(2024, 1, 3, 12, 5, 9),
    ),
    ("20240103", {"format": "%Y%m%d"}, moment(2024, 1, 3)),
    # A zone in the text is stronger than the recipe's, however it is written.
    *(
        (f"2024-01-03 10:00:00{zone}", {"timezone": "Europe/Berlin"}, moment(2024, 1, 3, hour))
        for zone, hour in [
            *((" UTC", 10), ("UTC", 10), (" GMT", 10), ("z", 10), (" Z", 10), ("", 9)),
            *((" +01:00", 9), ("+01", 9), ("+0100", 9), ("UTC+1", 9), (" GMT-02:00", 12)),
            ("+05:00[Asia/Karachi]", 5),
        ]
    ),
    ("2024-01-03T10:00:00,123456789Z", {}, moment(2024, 1, 3, 10, 0, 0, 123456)),
    ("2024-01-03T10+01:00", {}, moment(2024, 1, 3, 9)),
    ("2024-01-03T10:00:00.5", {"timezone": "UTC"}, moment(2024, 1, 3, 10, 0, 0, 500000)),
    *(
        (f"2024-01-03 10:00:00{zone}", {"timezone": "Europe/Berlin"}, None)
        for zone in (" EST", " Europe/Berlin", " CET", "+15:00", " UTC+99", "x")
    ),
    ("2024-01-03 25:00:00", {"timezone": "UTC"}, None),
    ("1_704_276_000", {"format": "s"}, None),
    ("1704276000", {}, None),
    ("13/13/2024", {"format": "%d/%m/%Y"}, None),
    ("2024-02-30", {}, None),
    ("soon", {"format": "s"}, None),
]


def test_moments(tmp_path):
    names = [f"c{number}" for number in range(len(MOMENTS))]
    written = {name: [row[0]] for name, row in zip(names, MOMENTS, strict=True)}
    columns = Columns(dict.fromkeys(names, "text"))
    fields = [
        columns.moment(TimeField(column=name, **row[1]))
        for name, row in zip(names, MOMENTS, strict=True)
    ]
    engine = DuckDbEngine(tmp_path / "scratch")
    engine.register("t", pa.table(written))
    selected = ", ".join(f"{sql} AS f{number}" for number, sql in enumerate(fields))
    (found,) = engine.query(f"SELECT {selected} FROM t").to_pylist()
    engine.close()
    expected = [row[2] and row[2].replace(tzinfo=None) for row in MOMENTS]
    assert list(found.values()) == expected


def test_numbers(tmp_path):
    written = ["12", " 1.5 ", "$1,299.00", "", None, "12 EUR", "nan", "inf", "-3"]
    plain = NumberField(column="c", strip="$,")
    found = evaluate(tmp_path, written, lambda columns: columns.number(plain))
    assert found == [12.0, 1.5, 1299.0, None, None, None, None, None, -3.0]
    cents = NumberField(column="c", unit=0.01)
    assert evaluate(tmp_path, ["250"], lambda columns: columns.number(cents)) == [2.5]
    german = NumberField(column="c", strip=".", decimal=",")
    assert evaluate(tmp_path, ["1.299,50"], lambda columns: columns.number(german)) == [1299.5]


def test_signs_between_thousands_are_refused_unless_they_are_named(tmp_path):
    comma = NumberField(column="c", decimal=",")
    written = ["1.299", "12,50", "1.299,00", "1000", "-,5", "1 299", "1'299"]
    found = evaluate(tmp_path, written, lambda columns: columns.number(comma))
    assert found == [None, 12.5, None, 1000.0, -0.5, None, None]
    point = NumberField(column="c")
    written = ["1,299", "1_000", "1d", "1e3", "+2.", "0x10", "1.5f"]
    found = evaluate(tmp_path, written, lambda columns: columns.number(point))
    assert found == [None, None, None, 1000.0, 2.0, None, None]
    # A column of numbers has no signs to be read.
    found = evaluate(tmp_path, [1.5, 1299.0], lambda c: c.number(comma), kind="number")
    assert found == [1.5, 1299.0]
    with pytest.raises(ValidationError, match="strip holds the decimal sign"):
        NumberField(column="c", strip="$.")


def test_pieces_with_a_dot_where_the_comma_is_the_decimal_sign_are_refused(tmp_path):
    orders = ORDERS.replace("o1,2,", "o1,1.000,")
    pieces = {"quantity": {"column": "pieces", "decimal": ","}}
    result, _ = prepared(
        shop(write_shop(tmp_path, orders=orders), interactions=pieces), tmp_path / "out"
    )
    assert result.counts["interactions"] == {"E102 quantity is not a number": 1, "kept": 3}
    assert "'1.000': set quantity.decimal, quantity.strip for signs between" in said(result)


def test_words_are_trimmed_and_missing_words_are_null(tmp_path):
    found = evaluate(tmp_path, [" a ", "NaN", "", None], lambda c: c.word("c"), missing=("NaN",))
    assert found == ["a", None, None, None]


def test_text_ids_that_became_floats_are_the_whole_numbers_they_were(tmp_path):
    field = TextField(column="c")
    found = evaluate(
        tmp_path, ["12.0", "1.5", "v1.0", "007", "-3.0", "1.00"], lambda c: c.key(field)
    )
    assert found == ["12", "1.5", "v1.0", "007", "-3", "1.00"]
    found = evaluate(
        tmp_path, ["1.2e+17", "1,23457E+17", "12e4", "a+b"], lambda c: c.is_rounded(field)
    )
    assert found == [True, True, False, False]
    found = evaluate(tmp_path, [1e16, 1e15, None], lambda c: c.is_rounded(field), kind="number")
    assert found == [True, False, False]


def test_users_whose_ids_lost_digits_are_refused(tmp_path):
    orders = ORDERS.replace("ann", "1.23457E+17")
    result, _ = prepared(shop(write_shop(tmp_path, orders=orders)), tmp_path / "out")
    assert result.counts["interactions"] == {"E102 user_id is a rounded number": 2, "kept": 2}


def test_a_zone_that_is_only_named_is_told(tmp_path):
    orders = ORDERS.replace("2024-01-03T10:00:00Z", "2024-01-03 10:00:00 EST")
    result, _ = prepared(shop(write_shop(tmp_path, orders=orders)), tmp_path / "out")
    assert "E109 time in a zone that is only named: 2 of 4 rows" in said(result)
    assert "'2024-01-03 10:00:00 EST': write the offset" in said(result)


def test_ids_that_became_floats_read_as_the_whole_numbers_they_were(tmp_path):
    found = evaluate(
        tmp_path, [12.0, 2.5, None, float("nan")], lambda c: c.word("c"), kind="number"
    )
    assert found == ["12", "2.5", None, None]


def test_a_template_leaves_out_what_is_missing(tmp_path):
    field = TextField(template="{c}'s no. {n}")
    assert evaluate(tmp_path, ["Ann", None], lambda c: c.text(field)) == ["Ann's no. 0", "'s no. 1"]
    only = TextField(template="by  {c}")
    assert evaluate(tmp_path, ["Ann", ""], lambda c: c.text(only)) == ["by Ann", None]


def test_words_can_be_put_in_other_words(tmp_path):
    field = TextField(column="c", values={"F": "female", "it's": "odd\\"})
    assert evaluate(tmp_path, ["F", "it's", "x"], lambda c: c.text(field)) == [
        "female",
        "odd\\",
        "x",
    ]


@pytest.mark.parametrize(
    ("field", "written", "expected"),
    [
        ({"separator": " > "}, "A > B > C > D", ["A", "B", "C"]),
        ({"separator": "|", "levels": 1}, "Action|Comedy", ["Action", None, None]),
        ({"separator": ">"}, "A >B", ["A", "B", None]),
        ({}, "A > B", ["A > B", None, None]),
    ],
)
def test_category_paths(tmp_path, field, written, expected):
    section = CategoryField(column="c", **field)
    found = [
        evaluate(tmp_path, [written], lambda c, level=level: c.levels(section)[level])[0]
        for level in range(3)
    ]
    assert found == expected


def test_category_lists_and_flags(tmp_path):
    listed = CategoryField(column="c", list=True)
    values = [["A", " B "], [], None]
    levels = [
        evaluate(tmp_path, values, lambda c, n=n: c.levels(listed)[n], kind="list") for n in (0, 1)
    ]
    assert levels == [["A", None, None], ["B", None, None]]
    flags = CategoryField(flags={"n": "First", "c": "Second"})
    found = evaluate(tmp_path, ["0", "1", "0"], lambda c: c.levels(flags)[0])
    assert found == [None, "First", None]


def test_rows_of_one_order_share_the_last_time_and_equal_items_merge(tmp_path):
    orders = (
        "customer,sku,when,order,pieces,amount\n"
        "ann,mug,2024-01-03T10:05:00Z,o1,2,20.00\n"
        "ann,mug,2024-01-03T10:00:00Z,o1,1,11.50\n"
        "ann,pot,2024-01-03T10:07:00Z,o1,1,\n"
    )
    result, tables = prepared(shop(write_shop(tmp_path, orders=orders)), tmp_path / "out")
    mug, pot = tables["interactions"]
    assert mug["ts"] == pot["ts"] == moment(2024, 1, 3, 10, 7)
    assert (mug["quantity"], mug["price"]) == (3, pytest.approx(10.5))  # (20.00 + 11.50) / 3
    assert pot["price"] is None
    assert result.counts["interactions"] == {
        "kept": 2,
        "merged: same item and kind in the same order": 1,
    }


def test_several_tables_of_interactions_with_kinds_of_their_own(tmp_path):
    write_shop(tmp_path)
    rows = [
        {"who": "cid", "what": {"id": "pot"}, "t": 1704276000, "e": "pv"},
        {"who": "cid", "what": {"id": "mug"}, "t": 1704276001, "e": "fav"},
        {"who": "cid", "what": {"id": "mug"}, "t": 1704276001, "e": "zzz"},
    ]
    (tmp_path / "views.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = shop(tmp_path)
    views = {
        "files": "views.jsonl",
        "user_id": "who",
        "item_id": "what.id",
        "ts": {"column": "t", "format": "s"},
        "kind": {"column": "e", "values": {"pv": "view", "fav": "save"}},
    }
    result, tables = prepared(
        source | {"interactions": [source["interactions"], views]}, tmp_path / "out"
    )
    mine = [row for row in tables["interactions"] if row["user_id"] == "cid"]
    assert [(row["item_id"], row["kind"], row["order_id"]) for row in mine] == [
        ("pot", "view", "@2024-01-03 10:00:00"),
        ("mug", "save", "@2024-01-03 10:00:01"),
    ]
    assert result.counts["interactions"]["E107 kind not mapped"] == 1
    assert "interactions.kind (column e): E107 kind not mapped: 1 of 3 rows" in said(result)
    assert "views.jsonl row 3 'zzz': name the word in values" in said(result)


def test_profiles_keep_the_declared_order_and_every_user_has_every_field(tmp_path):
    write_shop(tmp_path)
    (tmp_path / "people.csv").write_text("id,born,town\nann,1980,Köln\nzoe,NaN,Bonn\n", "utf-8")
    people = {
        "files": "people.csv",
        "user_id": "id",
        "profile": {"city": "town", "birth year": "born"},
    }
    _, tables = prepared(shop(tmp_path, users=people, missing=["NaN"]), tmp_path / "out")
    assert {row["user_id"]: row["fields"] for row in tables["users"]} == {
        "ann": [("city", "Köln"), ("birth year", "1980")],
        "bob": [("city", None), ("birth year", None)],
        "zoe": [("city", "Bonn"), ("birth year", None)],  # known, though nothing was ever bought
    }


def test_events_of_any_modality(tmp_path):
    write_shop(tmp_path)
    (tmp_path / "search.csv").write_text("c,t,q\nann,2024-01-02,mug\nann,2024-01-02,mug\n")
    (tmp_path / "apps.csv").write_text(
        "c,t,app,sec\nbob,2024-01-02,maps,12.5\nbob,2024-01-02,x,y\n"
    )
    day = {"column": "t", "timezone": "UTC"}
    events = [
        {"files": "search.csv", "modality": "search", "user_id": "c", "ts": day, "value": "q"},
        {"files": "apps.csv", "modality": "app", "user_id": "c", "ts": day, "value": "app"}
        | {"weight": "sec"},
    ]
    result, tables = prepared(shop(tmp_path, events=events), tmp_path / "out")
    assert [tuple(row.values()) for row in tables["events"]] == [
        ("ann", moment(2024, 1, 2), "search", "mug", None),
        ("bob", moment(2024, 1, 2), "app", "maps", 12.5),
    ]
    assert result.counts["events"] == {
        "kept": 2,
        "E105 repeated user_id, ts, modality, value, same row": 1,
        "E102 weight is not a number": 1,
    }


def test_exposures_are_drawn_without_a_look_at_labels_and_the_rest_is_counted(tmp_path):
    write_shop(tmp_path)
    header = "c,i,t,click,buy\n"
    rows = [f"u{n},mug,2024-01-02T00:00:00Z,{{}},\n" for n in range(400)]
    ads = {"files": "ads.csv", "user_id": "c", "item_id": "i", "ts": "t"}
    ads |= {"click": "click", "conversion": "buy"}
    drawn = []
    for label in (0, 1):
        (tmp_path / "ads.csv").write_text(header + "".join(rows).format(*[label] * 400))
        result, tables = prepared(
            shop(tmp_path, exposures=ads), tmp_path / f"out{label}", exposure_share=0.25
        )
        drawn.append([row["user_id"] for row in tables["exposures"]])
        assert {row["click"] for row in tables["exposures"]} == {label}
        assert {row["conversion"] for row in tables["exposures"]} == {None}
        assert sum(result.counts["exposures"].values()) == 400
        assert result.counts["exposures"]["kept"] == len(drawn[-1])
        assert len(tables["users"]) == 402  # who was shown something is a user, drawn or not
    assert drawn[0] == drawn[1]
    assert 70 < len(drawn[0]) < 130


def test_parquet_with_types_of_its_own(tmp_path):
    items = pa.table({"id": [1, 2], "name": ["A", "B"], "path": [["X", "Y"], []]})
    log = pa.table(
        {
            "user": pa.array([7.0, 8.0]),
            "id": pa.array([1, 2]),
            "ts": pa.array([datetime(2024, 1, 3), datetime(2024, 1, 4)], pa.timestamp("ns")),
            "price": pa.array([1.5, float("nan")]),
        }
    )
    pq.write_table(items, tmp_path / "items.parquet")
    (tmp_path / "log").mkdir()
    pq.write_table(log.slice(0, 1), tmp_path / "log" / "a.parquet")
    pq.write_table(log.slice(1, 1), tmp_path / "log" / "b.parquet")
    source = {
        "kind": "tables",
        "path": str(tmp_path),
        "items": {"files": "items.parquet", "item_id": "id", "title": "name"}
        | {"categories": {"column": "path", "list": True}},
        "interactions": {"files": "log/*.parquet", "user_id": "user", "item_id": "id"}
        | {"ts": {"column": "ts", "timezone": "Europe/Berlin"}, "price": "price"},
    }
    result, tables = prepared(source, tmp_path / "out")
    assert [(r["user_id"], r["item_id"], r["ts"], r["price"]) for r in tables["interactions"]] == [
        ("7", "1", moment(2024, 1, 2, 23), 1.5),
        ("8", "2", moment(2024, 1, 3, 23), None),
    ]
    assert tables["items"][0]["category_l2"] == "Y"
    assert result.problems == []


def test_a_table_that_the_engine_knows_by_name(tmp_path):
    from taiji.config import DataSection
    from taiji.data.tables.canonical import prepare

    write_shop(tmp_path)
    source = shop(tmp_path)
    source["items"] = {"table": "catalogue", "item_id": "id", "title": "name"}
    engine = DuckDbEngine(tmp_path / "scratch")
    engine.register("catalogue", pa.table({"id": ["mug"], "name": ["Blue mug"]}))
    section = DataSection.model_validate({"source": source})
    counts = prepare(engine, section, 17, tmp_path)
    engine.close()
    assert counts["interactions"] == {"E106 item not in the catalogue": 2, "kept": 2}


def test_orders_that_the_recipe_leaves_out_are_counted(tmp_path):
    orders = ORDERS.replace("80.00\n", "80.00\n").replace("customer,", "state,customer,")
    lines = orders.splitlines()
    lines = [lines[0], *(f"{state},{line}" for state, line in zip("ppcp", lines[1:], strict=True))]
    write_shop(tmp_path, orders="\n".join(lines))
    result, tables = prepared(
        shop(tmp_path, interactions={"only": {"state": ["p"]}}, tolerance=0.0), tmp_path / "out"
    )
    assert len(tables["interactions"]) == 3
    assert result.counts["interactions"] == {"kept": 3, "left out by only": 1}
    assert result.problems == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"items": {"title": {"template": "no column"}}},
        {"items": {"title": {"column": "a", "constant": "b"}}},
        {"items": {"categories": {"column": "a", "separator": ">", "list": True}}},
        {"items": {"files": None}},
        {"interactions": {"ts": {"column": "t", "format": "%Y-%q"}}},
        {"interactions": {"ts": {"column": "t", "timezone": "Mars"}}},
        {"interactions": {"kind": {"column": "k"}}},
        {"interactions": {"encoding": "klingon"}},
        {"interactions": []},
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused_before_any_file_is_read(tmp_path, wrong):
    with pytest.raises(ValidationError):
        prepared(shop(tmp_path, **wrong), tmp_path / "out")


def test_all_that_is_missing_is_said_at_once(tmp_path):
    write_shop(tmp_path)
    source = shop(
        tmp_path,
        items={"title": "nmae"},
        interactions={"user_id": "cust", "ts": {"column": "amount", "format": "s"}},
        events={"files": "none.csv", "modality": "x", "user_id": "a", "ts": "b", "value": "c"},
    )
    with pytest.raises(UnusableError) as caught:
        prepared(source, tmp_path / "out")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("items.csv: items.title: E101 no column nmae: did you mean name?")
    assert "interactions.user_id: E101 no column cust: " in lines[1]
    assert "none.csv: E101 no such file" in lines[2]


def test_parquet_has_no_file_order_and_says_so(tmp_path):
    write_shop(tmp_path)
    pq.write_table(csv.read_csv(tmp_path / "orders.csv"), tmp_path / "orders.parquet")
    source = shop(tmp_path, interactions={"files": "orders.parquet", "in_file_order": True})
    with pytest.raises(
        UnusableError, match=r"interactions.in_file_order: E102 rows of Parquet .* `line`"
    ):
        prepared(source, tmp_path / "out")
