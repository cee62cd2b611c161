"""Conversions out of seconds watched: among the user's own highest, of clips of like length."""

import math
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_shop import prepared, said, shop, write_shop
from pydantic import ValidationError

from taiji.config import DataSection
from taiji.config.mapping import ExposuresTable
from taiji.config.mapping_fields import OwnTopField
from taiji.data.engine import open_engine
from taiji.data.problems import UnusableError
from taiji.data.tables import own_tops
from taiji.data.tables.canonical import prepare_all
from taiji.data.tables.reach import declared

TOP = {"of": "watched", "within": "length", "dislike": "no"}
VIEWS = {"files": "views.csv", "user_id": "who", "item_id": "sku", "click": "opened"} | {
    "ts": {"column": "at", "timezone": "UTC"}
}
# Minute and seconds watched of clips of one bucket.
SIX = [(0, 3), (1, 5), (2, 1), (3, 4), (4, 2), (5, 4.5)]
JUDGED = {
    **{"source": pa.int64(), "user_id": pa.string(), "item_id": pa.string()},
    **{"ts": pa.timestamp("us"), "placement": pa.string(), "click": pa.int32()},
    **dict.fromkeys(("advertiser", "goal", "reported", "fault"), pa.string()),
    **{"value": pa.float64(), "top_number": pa.float64(), "top_bucket": pa.int64()},
    "disliked": pa.int32(),
}


@pytest.fixture(scope="module")
def shaped(tmp_path_factory):
    """Conversions of judged views `(minute, seconds, changes)`, in their order."""
    with open_engine("duckdb", tmp_path_factory.mktemp("shaped") / "scratch") as engine:

        def conversions(*views, **top):
            tops = {0: OwnTopField.model_validate(TOP | top)}
            rows = []
            for n, (minute, seconds, *changes) in enumerate(views):
                row = dict.fromkeys(JUDGED) | {"source": 0, "user_id": "ann", "placement": ""}
                row |= {"item_id": f"{n:03d}", "ts": datetime(2024, 2, 1, 10, minute), "click": 1}
                row |= {"top_number": seconds, "top_bucket": 3, "advertiser": "", "reported": ""}
                rows.append(row | (changes[0] if changes else {}))
            engine.register("judged_0", pa.Table.from_pylist(rows, pa.schema(JUDGED)))
            sql = f"SELECT conversion FROM ({own_tops.shaped_sql(tops)}) ORDER BY item_id"
            return engine.query(sql)["conversion"].to_pylist()

        yield conversions


def test_six_views_by_hand(shaped):
    # With two earlier views to compare with. Lower than each, of so many: 3: - of 0; 5: - of 1;
    # 1: 0 of 2 (q = 0); 4: 2 of 3 (q = .67); 2: 1 of 4 (q = .25); 4.5: 4 of 5 (q = .8 > .75).
    assert shaped(*SIX, least=2) == [None, None, 0, 0, 0, 1]
    assert shaped(*SIX, least=2, share=0.5) == [None, None, 0, 1, 0, 1]
    assert shaped(*SIX) == [None] * 5 + [1]
    # Four of five are not above .8, nor are equal numbers lower.
    assert shaped(*SIX, share=0.2) == [None] * 5 + [0]
    assert shaped(*SIX[:5], (5, 5)) == [None] * 5 + [1]
    assert shaped(*[(minute, 5) for minute in range(8)]) == [None] * 5 + [0] * 3


def test_nothing_at_or_after_a_view_counts(shaped):
    later = [(6, 9), (7, 0), (8, 9, {"disliked": 1})]
    assert shaped(*SIX, *later)[:6] == shaped(*SIX)
    # Two views of one moment do not count for each other: each has four earlier ones.
    assert shaped(*SIX[:4], (4, 2), (4, 9)) == [None] * 6
    assert shaped(*SIX[:5], (5, 9), (5, 4.5)) == [None] * 5 + [1, 1]


def test_only_own_clicked_views_of_like_length_are_compared(shaped):
    others = [(6, 9, {"top_bucket": 4}), (7, None), (8, 9, {"top_bucket": None})]
    others += [(9, 9, {"click": 0}), (10, 0, {"fault": "E112 click"})]
    others += [(11, 0, {"user_id": "bob"}), (12, 0, {"user_id": "bob"})]
    found = shaped(*SIX, *others, (20, 4.6))
    # Nothing to compare with; no click; the refused row is not there; 5 of the six are lower.
    assert found[6:] == [None, None, None, 0, None, None, 1]


def test_who_says_no_does_not_convert(shaped):
    rows = [(5, 9, {"disliked": 1}), (6, None, {"disliked": 1}), (7, 9, {"disliked": 0})]
    assert shaped(*SIX[:5], *rows)[5:] == [0, 0, 1]


def test_many_views_are_compared_with_the_newest(shaped, monkeypatch):
    monkeypatch.setattr(own_tops, "NEWEST", 3)
    watched = enumerate([1, 2, 3, 9, 8, 7, 5, 6])
    # 9 over 1, 2, 3; 8 over 2, 3 of 2, 3, 9; 7: 3 of 3, 9, 8; 5: none of 9, 8, 7; 6: 5 of 8, 7, 5.
    assert shaped(*watched, least=3, share=0.5) == [None, None, None, 1, 1, 0, 0, 0]


def write_views(folder, *rows, **top):
    """A file of `who,sku,minute,opened,watched,length,no`."""
    head = "who,sku,at,opened,watched,length,no\n"
    lines = [
        f"{who},{sku},2024-02-01T{10 + minute // 60}:{minute % 60:02d}:00,{rest}\n"
        for who, sku, minute, rest in rows
    ]
    (folder / "views.csv").write_text(head + "".join(lines), encoding="utf-8")
    return shop(write_shop(folder), exposures=VIEWS | {"own_top": TOP | top})


def test_lengths_are_alike_between_powers_of_two_and_a_value_stays_with_its_conversion(tmp_path):
    # 8 to 15.9 seconds are one bucket; 7.9 and 16 are of others.
    lengths = [8, 15.9, 9, 10, 12, 16, 7.9, 11]
    watched = [3, 5, 1, 4, 2, 9, 9, 4.5]
    rows = [
        ("ann", "mug", minute, f"1,{seconds},{length},")
        for minute, (seconds, length) in enumerate(zip(watched, lengths, strict=True))
    ]
    source = write_views(tmp_path, *rows)
    assert declared(DataSection.model_validate({"source": source})).goal == "conversion"
    source["exposures"]["value"] = "watched"
    _, tables = prepared(source, tmp_path / "out")
    assert [row["conversion"] for row in tables["exposures"]] == [None] * 7 + [1]
    outcomes = pq.read_table(tmp_path / "out" / "outcomes.parquet")
    assert outcomes["value"].to_pylist() == [None] * 7 + [4.5]


def test_bad_words_are_named_with_their_column(tmp_path):
    words = ["1,long,8,", "1,-1,8,", "1,1,x,", "1,1,-8,", "1,1,8,never"]
    rows = [("ann", "mug", minute, rest) for minute, rest in enumerate(words)]
    result, _ = prepared(write_views(tmp_path, *rows), tmp_path / "out")
    assert result.counts["exposures"] == {
        "E102 own_top.of is not a number": 1,
        "E102 own_top.within is not a number": 1,
        "E111 own_top.of is negative": 1,
        "E111 own_top.within is negative": 1,
        "E112 own_top.dislike is not 0, 1 or empty": 1,
    }
    assert "exposures.own_top.of (column watched)" in said(result)
    assert "views.csv row 2 'long'" in said(result)
    source = write_views(tmp_path, *rows, of="seconds")
    with pytest.raises(UnusableError, match=r"exposures\.own_top\.of: E101 no column seconds"):
        prepared(source, tmp_path / "none")


def test_it_stands_in_place_of_a_conversion():
    with pytest.raises(ValidationError, match="stands in place"):
        ExposuresTable.model_validate(VIEWS | {"own_top": TOP, "conversion": "no"})


@pytest.mark.slow
def test_both_engines_shape_alike(tmp_path):
    pytest.importorskip("pyspark")
    rows = [
        (who, ("mug", "pot", "rug")[n % 3], n // 2, f"{watched},{2 ** (n % 4) + n % 3},")
        for n in range(400)
        for who in ("ann", "bob")
        for watched in [f"{'01'[n % 7 > 0]},{3 + 40 * math.sin(n) ** 2:.1f}"]
    ]
    section = DataSection.model_validate(
        {"source": write_views(tmp_path, *rows, share=0.3), "exposure_share": 1.0}
    )
    found = []
    for kind in ("duckdb", "spark"):
        (tmp_path / kind).mkdir()
        with open_engine(kind, tmp_path / kind / "scratch") as engine:
            prepare_all(engine, section, 17, tmp_path / kind)
        found.append(pq.read_table(tmp_path / kind / "exposures.parquet"))
    assert found[0].equals(found[1])
    counted = found[0]["conversion"].to_pylist()
    assert min(counted.count(one) for one in (0, 1, None)) > 20
