"""Files as programs really write them: read right, or refused by a name that helps."""

import bz2
import codecs
import gzip
import json
import lzma
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_shop import ITEMS, ORDERS, prepared, said, shop, write_shop
from pydantic import ValidationError

from taiji.data.problems import UnusableError

TITLES = ["Blue mug", "Tea pot", "Rug"]


def titles(source, out):
    result, tables = prepared(source, out)
    return result, {row["item_id"]: row["title"] for row in tables["items"]}


def refused(source, out):
    with pytest.raises(UnusableError) as caught:
        prepared(source, out)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("items.csv", gzip.compress(ITEMS.encode(), mtime=0), {}),  # packed, whatever the name says
        ("ITEMS.CSV.GZ", gzip.compress(ITEMS.encode(), mtime=0), {}),
        ("items.csv", ITEMS.replace("\n", "\r").encode(), {}),
        ("items.csv", ITEMS.replace("\n", "\r\n").encode(), {}),
        ("items.csv", codecs.BOM_UTF8 + ITEMS.encode(), {}),
        ("items.csv", ITEMS.encode("utf-16"), {"encoding": "utf-16"}),
        ("items.csv", ITEMS.encode("utf-16-le"), {"encoding": "utf-16-le"}),
        ("items.csv", ITEMS.encode("utf-32"), {"encoding": "utf-32"}),
        ("items.csv", ITEMS.replace("\n", ",,\n").encode(), {}),  # Excel's nameless columns
        ("items.csv", ITEMS.replace(",", "§").encode(), {"separator": "§"}),
        ("items.csv", ITEMS.replace(",", "::").encode(), {"separator": "::"}),
    ],
)
def test_text_is_read_however_it_is_packed_encoded_or_ended(tmp_path, name, content, options):
    write_shop(tmp_path)
    (tmp_path / "items.csv").unlink()
    (tmp_path / name).write_bytes(content)
    result, found = titles(shop(tmp_path, items={"files": name} | options), tmp_path / "out")
    assert [found[key] for key in ("mug", "pot", "rug")] == TITLES
    assert result.problems == []


def _zipped(tmp_path):
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("items.csv", ITEMS)
    return (tmp_path / "z").read_bytes()


def _parquet(tmp_path):
    pq.write_table(pa.table({"sku": ["mug"]}), tmp_path / "p")
    return (tmp_path / "p").read_bytes()


def _flipped(content):
    packed = bytearray(gzip.compress(content * 50, mtime=0))
    packed[len(packed) // 2] ^= 0xFF
    return bytes(packed)


def _bad_block(content):
    packed = bytearray(gzip.compress(content, mtime=0))
    packed[10] = 0x07  # the first block's kind is none that there is
    return bytes(packed)


DAMAGED = {
    "gzip flipped": (lambda _: _flipped(ITEMS.encode()), "E102 cannot be read"),
    "gzip of no known block": (lambda _: _bad_block(ITEMS.encode()), "E102 cannot be read"),
    "gzip cut": (lambda _: gzip.compress(ITEMS.encode(), mtime=0)[:-12], "E102 cannot be read"),
    "bzip2": (lambda _: bz2.compress(ITEMS.encode()), "E102 is packed by bzip2: unpack it"),
    "xz": (lambda _: lzma.compress(ITEMS.encode()), "E102 is packed by xz: unpack it"),
    "zstd": (
        lambda _: bytes(pa.compress(ITEMS.encode(), "zstd", asbytes=True)),
        "E102 is packed by Zstandard",
    ),
    "zip": (_zipped, "E102 is a zip archive or an Excel workbook"),
    "Parquet": (_parquet, "E102 is Parquet"),
    "UTF-16": (
        lambda _: ITEMS.encode("utf-16"),
        "E102 begins with the byte-order mark of utf-16, not utf-8: set encoding: utf-16",
    ),
    "UTF-16 without a mark": (lambda _: ITEMS.encode("utf-16-le"), "E102 holds NUL characters"),
    "empty": (lambda _: b"", "E101 is empty: a header is needed, or set names"),
    "no header": (lambda _: b"1,2,3\n", "E101 has none of the columns sku, name, path"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_what_is_no_text_is_refused_by_name(tmp_path, what):
    make, message = DAMAGED[what]
    write_shop(tmp_path)
    (tmp_path / "items.csv").write_bytes(make(tmp_path))
    lines = refused(shop(tmp_path), tmp_path / "out").splitlines()
    assert lines[0].startswith(f"{tmp_path / 'items.csv'}: {message}")
    assert len(lines) == 1  # not once for each column


JSON_ITEMS = "".join(
    json.dumps({"sku": sku, "name": name, "path": None}) + "\n"
    for sku, name in zip(("mug", "pot", "rug"), TITLES, strict=True)
)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        # An ending that nobody knows is no reason to ask for a format that would not help.
        ("items.csv.zst", bytes(pa.compress(ITEMS.encode(), "zstd", asbytes=True)), "Zstandard"),
        ("items.csv.bz2", bz2.compress(ITEMS.encode()), "bzip2"),
        ("items.xlsx", b"PK\x03\x04 a workbook", "a zip archive or an Excel workbook"),
        ("items.dat", ITEMS.encode(), "format not known by its ending: set format"),
        ("items.jsonl.gz", _flipped(JSON_ITEMS.encode()), "cannot be read"),
        ("items.jsonl", b"", "E101 holds no row"),
        ("items.jsonl", json.dumps([{"sku": "mug"}], indent=1).encode(), "is a JSON array"),
    ],
)
def test_what_can_be_no_table_is_refused_by_name_under_any_ending(tmp_path, name, content, message):
    write_shop(tmp_path)
    (tmp_path / name).write_bytes(content)
    lines = refused(shop(tmp_path, items={"files": name}), tmp_path / "out").splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert "columns here" not in lines[0]


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (ITEMS.encode("utf-16")[:-1], "utf-16"),
        (ITEMS.encode("utf-16") + b"x", "utf-16"),
        (ITEMS.encode(), "utf-16"),
        (ITEMS.encode(), "utf-32"),
        (codecs.BOM_UTF8 + ITEMS.encode(), "latin-1"),
        (("x" * 200_000 + '"').encode(), "utf-8"),
    ],
)
def test_a_wrong_encoding_is_an_error(tmp_path, content, encoding):
    write_shop(tmp_path)
    (tmp_path / "items.csv").write_bytes(content)
    source = shop(tmp_path, items={"encoding": encoding})
    assert "items.csv: E10" in refused(source, tmp_path / "out")


def test_json_that_is_cut_in_a_character_is_an_error(tmp_path):
    write_shop(tmp_path)
    (tmp_path / "items.jsonl").write_bytes(JSON_ITEMS.encode("utf-16")[:-1])
    items = {"files": "items.jsonl", "encoding": "utf-16"}
    assert "items.jsonl: E102" in refused(shop(tmp_path, items=items), tmp_path / "out")


@pytest.mark.parametrize(
    "encoding",
    ["hex", "zlib", "rot13", "idna", "punycode", "undefined", "unicode_escape", "\0"],
)
def test_a_codec_that_is_no_text_encoding_is_refused(tmp_path, encoding):
    with pytest.raises(ValidationError, match="no such text encoding"):
        prepared(shop(tmp_path, items={"encoding": encoding}), tmp_path / "out")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "E101 '' names no file"),
        (".", "E101 '.' names no file"),
        ("orders**.csv", "E101 no"),
        ("//server/x.csv", "E101 no such file"),
        ("~nobody-here/x.csv", "no pattern"),
        ("a\0b", "E101 no"),
        ("sub", "it is a folder"),
    ],
)
def test_odd_patterns_are_errors(tmp_path, pattern, message):
    write_shop(tmp_path)
    (tmp_path / "sub").mkdir()
    assert message in refused(shop(tmp_path, items={"files": pattern}), tmp_path / "out")


def test_absolute_names_and_names_with_brackets_are_names(tmp_path):
    write_shop(tmp_path)
    (tmp_path / "items [2024].csv").write_text(ITEMS)
    for files in (str(tmp_path / "items.csv"), "items [2024].csv"):
        _, found = titles(shop(tmp_path, items={"files": files}), tmp_path / "out")
        assert found["rug"] == "Rug"
    table = pa.table({"sku": ["mug", "pot", "rug"], "name": TITLES})
    pq.write_table(table, tmp_path / "i [1].parquet")
    pq.write_table(pa.table({"sku": ["x"], "name": ["X"]}), tmp_path / "i 1.parquet")
    items = {"files": "i [[]1].parquet", "categories": None}
    assert len(titles(shop(tmp_path, items=items), tmp_path / "out2")[1]) == 3


def test_what_other_systems_leave_behind_is_not_read(tmp_path):
    write_shop(tmp_path)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "a.csv").write_text(ITEMS)
    for name in ("._a.csv", "_SUCCESS.csv", "~$a.csv", ".a.csv.crc.csv"):
        (tmp_path / "lists" / name).write_bytes(b"\0\5\x16\7Mac OS X\xff")
    _, found = titles(shop(tmp_path, items={"files": "lists/*.csv"}), tmp_path / "out")
    assert list(found.values()) == TITLES


def test_backslashes_are_told_or_taken_for_what_they_mean(tmp_path):
    write_shop(tmp_path, items='sku,name,path\nmug,"A \\"big\\" mug",\npot,P,\nrug,R,\n')
    result, _ = titles(shop(tmp_path), tmp_path / "out")
    assert "W215 2 quotes stand behind a backslash: if backslashes" in said(result)
    result, found = titles(shop(tmp_path, items={"escape": "\\"}), tmp_path / "out2")
    assert (found["mug"], result.problems) == ('A "big" mug', [])
    write_shop(tmp_path, items='sku,name,path\nmug,"A \\"big\\", red",\npot,P,\nrug,R,\n')
    result, _ = titles(shop(tmp_path), tmp_path / "out3")
    assert "E102 row has 4 columns instead of 3" in said(result)
    assert "W215 2 quotes stand behind a backslash" in said(result)
    _, found = titles(shop(tmp_path, items={"escape": "\\"}), tmp_path / "out4")
    assert found["mug"] == 'A "big", red'


def test_a_long_separator_inside_quotes_separates_nothing(tmp_path):
    write_shop(tmp_path, items='sku::name::path\nmug::"A::B"::\npot::P\x1fQ::\nrug::R::\n')
    result, found = titles(shop(tmp_path, items={"separator": "::"}), tmp_path / "out")
    assert (found["mug"], found["pot"]) == ("A::B", "P\ufffdQ")
    assert "W210 1 characters" in said(result)


@pytest.mark.parametrize(
    ("writes", "later"), [("csv", "total"), ("csv", "Amount"), ("parquet", "total")]
)
def test_a_column_that_only_some_files_have_is_an_error_that_names_the_others(
    tmp_path, writes, later
):
    write_shop(tmp_path)
    rows = [dict(zip(ORDERS.split("\n")[0].split(","), line.split(","), strict=True)) for line in
            ORDERS.splitlines()[1:]]  # fmt: skip
    for year, name in ((2023, "amount"), (2024, later)):
        table = pa.Table.from_pylist(rows).rename_columns({"amount": name})
        path = tmp_path / f"orders-{year}.{writes}"
        if writes == "csv":
            lines = [
                ",".join(table.column_names),
                *(",".join(r.values()) for r in table.to_pylist()),
            ]
            path.write_text("\n".join(lines))
        else:
            pq.write_table(table, path)
    source = shop(tmp_path, interactions={"files": f"orders-*.{writes}"})
    message = refused(source, tmp_path / "out")
    assert "E101 orders-2024." in message
    assert "has no column amount, which other files of the table have: rename" in message


def test_a_file_without_its_header_is_an_error_that_names_it(tmp_path):
    header, *rows = ORDERS.splitlines(True)
    write_shop(tmp_path)
    (tmp_path / "o-1.csv").write_text(header + rows[0])
    (tmp_path / "o-2.csv").write_text("".join(rows[1:]))
    message = refused(shop(tmp_path, interactions={"files": "o-*.csv"}), tmp_path / "out")
    assert "E101 o-2.csv has no column amount, customer, order, pieces, sku, when" in message


def test_a_label_that_only_some_files_have_is_no_unknown_label(tmp_path):
    write_shop(tmp_path)
    for number, name in ((1, "conversion"), (2, "converted")):
        row = f"ann,mug,2024-01-0{number}T10:00:00Z,1,1\n"
        (tmp_path / f"ads-{number}.csv").write_text(f"c,i,t,click,{name}\n{row}")
    ads = {"files": "ads-*.csv", "user_id": "c", "item_id": "i", "ts": "t"}
    ads |= {"click": "click", "conversion": "conversion"}
    message = refused(shop(tmp_path, exposures=ads), tmp_path / "out")
    assert "E101 ads-2.csv has no column conversion" in message


def test_a_key_that_only_some_json_files_have_is_told(tmp_path):
    write_shop(tmp_path)
    row = {"customer": "ann", "sku": "mug", "when": "2024-01-03T10:00:00Z", "order": "1"}
    row |= {"pieces": 1}
    (tmp_path / "o-1.jsonl").write_text(json.dumps(row | {"amount": 5}))
    (tmp_path / "o-2.jsonl").write_text(json.dumps(row | {"order": "2"}))
    (tmp_path / "o-3.jsonl").write_text("")
    result, _ = prepared(shop(tmp_path, interactions={"files": "o-*.jsonl"}), tmp_path / "out")
    assert "W216 no row of o-2.jsonl has amount" in said(result)
    assert [problem.code for problem in result.problems] == ["W216"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"sku": "mug"}]', "E102 is a JSON array, not JSON lines: write one object a line"),
        ('{\n  "sku": "mug"\n}\n', "E102 spreads an object over several lines"),
        ("sku,name\nmug,Mug\n", "E102 no line is a JSON object: 'sku,name' and 1 others"),
    ],
)
def test_json_of_another_shape_is_refused_by_name(tmp_path, content, message):
    write_shop(tmp_path)
    (tmp_path / "items.jsonl").write_text(content)
    lines = refused(shop(tmp_path, items={"files": "items.jsonl"}), tmp_path / "out").splitlines()
    assert len(lines) == 1
    assert message in lines[0]


def test_keys_with_dots_and_nested_values_of_json(tmp_path):
    write_shop(tmp_path)
    rows = [
        {"sku": "mug", "a.name": "Mug", "a": {"name": "no"}},
        {"sku": "pot", "a": {"name": "Pot"}},
        {"sku": "rug", "a": {"name": {"en": "Rug"}}},
    ]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    items = {"files": "items.jsonl", "title": "a.name", "categories": None}
    result, found = titles(shop(tmp_path, items=items), tmp_path / "out")
    assert found == {"mug": "Mug", "pot": "Pot"}
    assert result.counts["items"] == {"kept": 2, "E102 a.name holds nested values": 1}


RESERVED = ("_file", "_row", "file", "row", "part", "row_no", "source", "c0", "wanted", "fault")


@pytest.mark.parametrize("writes", ["csv", "jsonl", "parquet"])
def test_a_column_may_be_called_what_it_likes(tmp_path, writes):
    write_shop(tmp_path)
    columns = {"sku": ["mug", "pot", "rug"]} | {name: [f"{name} {n}" for n in range(3)]
                                                for name in (*RESERVED, "SKU")}  # fmt: skip
    table = pa.table(columns)
    path = tmp_path / f"i.{writes}"
    if writes == "parquet":
        pq.write_table(table, path)
    elif writes == "jsonl":
        path.write_text("\n".join(map(json.dumps, table.to_pylist())))
    else:
        rows = (",".join(row.values()) for row in table.to_pylist())
        path.write_text("\n".join([",".join(columns), *rows]))
    for name in RESERVED:
        items = {"files": path.name, "title": name, "categories": None, "brand": "SKU"}
        _, tables = prepared(shop(tmp_path, items=items), tmp_path / name)
        assert {row["item_id"]: row["title"] for row in tables["items"]} == {
            "mug": f"{name} 0", "pot": f"{name} 1", "rug": f"{name} 2",
        }  # fmt: skip
        assert {row["brand"] for row in tables["items"]} == {"SKU 0", "SKU 1", "SKU 2"}


@pytest.mark.parametrize("writes", ["csv", "jsonl"])
@pytest.mark.parametrize("name", ["_row", "_file"])
def test_event_ids_may_stand_in_a_column_of_any_name(tmp_path, writes, name):
    """Two events have one id: with numbers of lines in its place they would be two."""
    header, *rows = (line.split(",") for line in ORDERS.splitlines())
    table = [
        dict(zip([*header, name], [*row, f"e{min(n, 2)}"], strict=True))
        for n, row in enumerate(rows)
    ]
    write_shop(tmp_path)
    path = tmp_path / f"log.{writes}"
    if writes == "jsonl":
        path.write_text("\n".join(map(json.dumps, table)))
    else:
        path.write_text("\n".join([",".join(table[0]), *(",".join(r.values()) for r in table)]))
    log = {"files": path.name, "order_id": None, "event_id": name}
    result, _ = prepared(shop(tmp_path, interactions=log), tmp_path / "out")
    assert result.counts["interactions"] == {
        "kept": 3,
        "E105 repeated event_id, different row": 1,
    }


def test_a_column_called_part_can_be_taken_apart(tmp_path):
    write_shop(tmp_path)
    log = pa.table(
        {"part": ["mug-1 pot-0"], "item": ["no"], "who": ["ann"], "t": ["2024-01-03T10:00:00Z"]}
    )
    pq.write_table(log, tmp_path / "shown.parquet")
    shown = {"files": "shown.parquet", "user_id": "who", "item_id": "item", "click": "click"}
    shown |= {"ts": "t", "explode": {"column": "part", "names": ["item", "click"]}}
    _, tables = prepared(shop(tmp_path, exposures=shown), tmp_path / "out")
    assert [(r["item_id"], r["click"]) for r in tables["exposures"]] == [("mug", 1), ("pot", 0)]


def test_parquet_types_of_other_writers_are_read(tmp_path):
    write_shop(tmp_path)
    nothing, ids = pa.nulls(3), [b"mug", b"pot", b"rug"]
    table = {
        "sku": pa.array(ids, pa.binary()),
        "name": pa.array(["A", "B", "C"]).dictionary_encode(),
        "maker": nothing,
        "path": pa.array([[1, 2], [], None], pa.list_(pa.int64())),
        "fixed": pa.array([["x", "y"]] * 3, pa.list_(pa.string(), 2)),
    }
    pq.write_table(pa.table(table), tmp_path / "i1.parquet")
    other = table | {"sku": pa.array([b"tea", b"cup\xff", None], pa.binary(), size=None)}
    other |= {"maker": pa.array(["Kiln", None, "Forge"])}
    pq.write_table(pa.table(other), tmp_path / "i2.parquet")
    items = {"files": "i*.parquet", "title": "name", "brand": "maker"}
    items |= {"categories": {"column": "path", "list": True}}
    result, tables = prepared(shop(tmp_path, items=items), tmp_path / "out")
    rows = {row["item_id"]: row for row in tables["items"]}
    assert set(rows) == {"mug", "pot", "rug", "tea", "cup\ufffd"}
    assert (rows["mug"]["category_l1"], rows["mug"]["category_l2"]) == ("1", "2")
    assert (rows["mug"]["brand"], rows["tea"]["brand"]) == (None, "Kiln")
    assert result.counts["items"] == {"kept": 5, "E103 no item_id": 1}
    assert [row["row"] for row in tables["quarantine"] if row["file"] == "i2.parquet"] == [3]
    assert "W210" in said(result)
    items["categories"] = {"column": "fixed", "list": True}
    _, tables = prepared(shop(tmp_path, items=items), tmp_path / "b")
    assert {row["category_l2"] for row in tables["items"]} == {"y"}


@pytest.mark.parametrize(("inner", "value"), [("list", ["x"]), ("struct", {"a": "x"})])
def test_lists_of_what_is_no_word_are_refused_by_their_type(tmp_path, inner, value):
    write_shop(tmp_path)
    table = pa.table({"sku": ["mug"], "name": ["Mug"], "path": [[value]]})
    pq.write_table(table, tmp_path / "i.parquet")
    items = {"files": "i.parquet", "categories": {"column": "path", "list": True}}
    message = refused(shop(tmp_path, items=items), tmp_path / "out")
    assert f"items.categories (column path): E102 holds list<element: {inner}<" in message


@pytest.mark.parametrize("column", ["amount", "order"])
def test_a_column_of_nulls_in_a_whole_file_or_in_one_of_two_is_missing_values(tmp_path, column):
    header, *rows = (line.split(",") for line in ORDERS.splitlines())
    table = pa.Table.from_pylist([dict(zip(header, row, strict=True)) for row in rows])
    place = table.column_names.index(column)
    empty = table.set_column(place, column, pa.nulls(len(rows)))
    write_shop(tmp_path)
    for number, parts in enumerate(((empty,), (table.slice(0, 2), empty.slice(2)))):
        for part, of in enumerate(parts):
            pq.write_table(of, tmp_path / f"o{number}-{part}.parquet")
        log = {"files": f"o{number}-*.parquet"}
        result, tables = prepared(shop(tmp_path, interactions=log), tmp_path / f"out{number}")
        assert result.counts["interactions"] == {"kept": 4}
        if column == "amount":
            known = [row["price"] is not None for row in tables["interactions"]]
            assert sum(known) == (0, 2)[number]
