"""Conversions out of seconds watched: among the user's own highest, of clips of like length."""

import math

import pyarrow.parquet as pq
import pytest
from data_shop import prepared, said, shop, write_shop
from pydantic import ValidationError

from taiji.config import DataSection
from taiji.config.mapping import ExposuresTable
from taiji.data.engine import open_engine
from taiji.data.problems import UnusableError
from taiji.data.tables import own_tops
from taiji.data.tables.canonical import prepare_all
from taiji.data.tables.reach import declared

TOP = {"of": "watched", "within": "length", "dislike": "no"}
VIEWS = {"files": "views.csv", "user_id": "who", "item_id": "sku", "click": "opened"} | {
    "ts": {"column": "at", "timezone": "UTC"}
}
HEAD = "who,sku,at,opened,watched,length,no,spent\n"


def write_views(folder, *rows, **top):
    """Rows of `minute,watched,length`, and what else is to be said of a view of ann's."""
    lines = []
    for row in rows:
        minute, watched, length, opened, no, who = (*row, *("1", "", "ann")[len(row) - 3 :])
        at = f"2024-02-01T10:{minute:02d}:00"
        lines.append(f"{who},mug,{at},{opened},{watched},{length},{no},{watched}\n")
    (folder / "views.csv").write_text(HEAD + "".join(lines), encoding="utf-8")
    return shop(write_shop(folder), exposures=VIEWS | {"own_top": TOP | top})


def conversions(tables):
    return {row["ts"].minute: row["conversion"] for row in tables["exposures"]}


# Lengths of 8 to 15 seconds are one bucket, floor(log2) = 3; 7 and 16 are of others.
SIX = [(0, 3, 8), (1, 5, 15), (2, 1, 9), (3, 4, 10), (4, 2, 12), (5, 4.5, 11)]


def test_six_views_by_hand(tmp_path):
    # With two earlier views to compare with. Lower than each, of so many: 1: - of 0; 5: - of 1;
    # 1: 0 of 2 (q = 0); 4: 2 of 3 (q = .67); 2: 1 of 4 (q = .25); 4.5: 4 of 5 (q = .8 > .75).
    _, tables = prepared(write_views(tmp_path, *SIX, least=2), tmp_path / "out")
    assert conversions(tables) == {0: None, 1: None, 2: 0, 3: 0, 4: 0, 5: 1}
    _, tables = prepared(write_views(tmp_path, *SIX, least=2, share=0.5), tmp_path / "half")
    assert conversions(tables) == {0: None, 1: None, 2: 0, 3: 1, 4: 0, 5: 1}
    _, tables = prepared(write_views(tmp_path, *SIX), tmp_path / "five")
    assert conversions(tables) == {0: None, 1: None, 2: None, 3: None, 4: None, 5: 1}


def test_nothing_at_or_after_a_view_counts(tmp_path):
    _, before = prepared(write_views(tmp_path, *SIX), tmp_path / "out")
    later = [(6, 9, 8), (7, 0, 8), (8, 9, 8, "1", "1")]
    _, after = prepared(write_views(tmp_path, *SIX, *later), tmp_path / "later")
    assert {m: c for m, c in conversions(after).items() if m < 6} == conversions(before)
    # Two views of one moment do not count for each other: each has four earlier ones.
    same = [*SIX[:4], (4, 2, 12), (4, 9, 8)]
    source = write_views(tmp_path, *same)
    text = (tmp_path / "views.csv").read_text().splitlines()
    text[-1] = text[-1].replace("mug", "pot")
    (tmp_path / "views.csv").write_text("\n".join(text) + "\n")
    _, tables = prepared(source, tmp_path / "same")
    assert [row["conversion"] for row in tables["exposures"]] == [None] * 6


def test_only_own_clicked_views_of_like_length_are_compared(tmp_path):
    others = [(6, 9, 16), (7, 9, 7), (8, "", 8), (9, 9, ""), (10, 9, 8, "0")]
    others += [(minute, 0, 8, "1", "", "bob") for minute in range(11, 16)]
    _, tables = prepared(write_views(tmp_path, *SIX, *others, (20, 4.6, 8)), tmp_path / "out")
    found = conversions(tables)
    assert [found[minute] for minute in (6, 7, 8, 9)] == [None] * 4  # nothing to compare with
    assert found[10] == 0  # no click
    assert found[20] == 1  # 5 of the six are lower: q = .83
    assert [found[minute] for minute in range(11, 16)] == [None] * 5


def test_who_says_no_does_not_convert(tmp_path):
    rows = [*SIX[:5], (5, 9, 8, "1", "1"), (6, "", 8, "1", "1"), (7, 9, 8, "1", "0")]
    _, tables = prepared(write_views(tmp_path, *rows), tmp_path / "out")
    assert [conversions(tables)[minute] for minute in (5, 6, 7)] == [0, 0, 1]


def test_many_views_are_compared_with_the_newest(tmp_path, monkeypatch):
    monkeypatch.setattr(own_tops, "NEWEST", 3)
    watched = [1, 2, 3, 9, 8, 7, 5, 6]
    rows = [(minute, seconds, 8) for minute, seconds in enumerate(watched)]
    _, tables = prepared(write_views(tmp_path, *rows, least=3, share=0.5), tmp_path / "out")
    # 9 over 1, 2, 3; 8 over 2, 3 of 2, 3, 9; 7: 3 of 3, 9, 8; 5: none of 9, 8, 7; 6: 5 of 8, 7, 5.
    assert list(conversions(tables).values()) == [None, None, None, 1, 1, 0, 0, 0]


def test_what_is_spent_is_shaped_in_the_same_way_and_worth_what_it_is(tmp_path):
    source = write_views(tmp_path, *SIX, least=2, of="spent")
    source["exposures"]["value"] = "spent"
    prepared(source, tmp_path / "out")
    outcomes = pq.read_table(tmp_path / "out" / "outcomes.parquet")
    assert outcomes["value"].to_pylist() == [None] * 5 + [4.5]


def test_bad_words_are_named_with_their_column(tmp_path):
    rows = [(0, "long", 8), (1, -1, 8), (2, 1, "x"), (3, 1, -8), (4, 1, 8, "1", "never")]
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


def test_a_column_that_is_not_there_is_named(tmp_path):
    source = write_views(tmp_path, *SIX, of="seconds")
    with pytest.raises(UnusableError, match=r"exposures\.own_top\.of: E101 no column seconds"):
        prepared(source, tmp_path / "out")


def test_a_log_of_seconds_has_conversions_for_its_goal(tmp_path):
    source = write_views(tmp_path, *SIX)
    assert declared(DataSection.model_validate({"source": source})).goal == "conversion"
    with pytest.raises(ValidationError, match="stands in place"):
        ExposuresTable.model_validate(VIEWS | {"own_top": TOP, "conversion": "no"})


@pytest.mark.slow
def test_both_engines_shape_alike(tmp_path):
    pytest.importorskip("pyspark")
    rows = [
        (n % 60, round(3 + 40 * math.sin(n) ** 2, 1), 2 ** (n % 4) + n % 3, "01"[n % 7 > 0], "", w)
        for n in range(400)
        for w in ("ann", "bob")
        if (n % 60, n // 60) != (0, 9)
    ]
    source = write_views(tmp_path, *rows, share=0.3)
    text = (tmp_path / "views.csv").read_text().splitlines()
    sized = [line.replace("mug", ("mug", "pot", "rug")[n % 3], 1) for n, line in enumerate(text)]
    (tmp_path / "views.csv").write_text("\n".join(sized) + "\n")
    section = DataSection.model_validate({"source": source, "exposure_share": 1.0})
    found = []
    for kind in ("duckdb", "spark"):
        (tmp_path / kind).mkdir()
        with open_engine(kind, tmp_path / kind / "scratch") as engine:
            prepare_all(engine, section, 17, tmp_path / kind)
        found.append(pq.read_table(tmp_path / kind / "exposures.parquet"))
    assert found[0].equals(found[1])
    counted = found[0]["conversion"].to_pylist()
    assert min(counted.count(one) for one in (0, 1, None)) > 10
