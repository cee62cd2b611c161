import time

import pyarrow as pa
import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from taiji.data.item_text import ELLIPSIS, cut, item_text, item_texts, one_part, plain_name

FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
PIECES = [
    "a", " ", "é", "e\u0301", "\U0001f1e9\U0001f1ea", "\U0001f1e9", FAMILY, "\U0001f44d\U0001f3fd",
    "\u0e01\u0e33", "\u1112\u1161\u11ab", "\u0915\u094d\u0937", "\r\n", "\u200d", "牛奶",
    "\u0600\u0661",
]  # fmt: skip
text = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=20).map("".join)


@given(text, st.integers(1, 12))
@example(FAMILY, 3)
@example("\U0001f1e9\U0001f1ea" * 3, 4)
def test_the_border_is_one_of_graphemes_and_nothing_is_lost_without_need(text, limit):
    short = cut(text, limit)
    assert len(short) <= limit
    if len(text) <= limit:
        assert short == text
        return
    kept = short.removesuffix(ELLIPSIS)
    borders = [0, *(match.end() for match in regex.finditer(r"\X", text))]
    fitting = max(border for border in borders if border <= limit - 1)
    assert kept == text[:fitting].rstrip()
    assert short.endswith(ELLIPSIS)


def test_by_hand():
    assert cut("Oat milk 1 l", 8) == "Oat mil…"
    assert cut("Oat milk 1 l", 5) == "Oat…"
    assert cut("Cafe\u0301s", 5) == "Caf…"
    assert cut(FAMILY * 2, 8) == FAMILY + ELLIPSIS
    assert cut(FAMILY * 2, 7) == ELLIPSIS


@pytest.mark.parametrize("piece", ["milk ", "e" + "\u0301" * 9, FAMILY, "\u0301", "\U0001f1e9"])
def test_a_megabyte_takes_no_time(piece):
    long = piece * (10**6 // len(piece))
    start = time.process_time()
    assert len(cut(long, 200)) <= 200
    assert time.process_time() - start < 2


def item(title, *levels):
    levels = [*levels, None, None, None][:3]
    return {"title": title} | {f"category_l{n}": level for n, level in enumerate(levels, start=1)}


def test_missing_levels_are_left_out():
    whole = item("Milk 1 gal", "Grocery", "Dairy", "Milk")
    assert item_text(whole) == "Milk 1 gal; Grocery; Dairy; Milk"
    assert item_text(item("Milk 1 gal", None, "Dairy")) == "Milk 1 gal; Dairy"


def test_a_table_and_its_rows_have_the_same_texts():
    rows = [item("Milk", "Dairy"), item("Salt; Pepper", None, "A;B"), item("", "x")]
    table = pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in rows[0]]))
    assert item_texts(table) == [item_text(row) for row in rows]


def test_the_separator_cannot_come_from_a_title():
    assert item_text(item("Salt; Pepper", "A;B")) == "Salt, Pepper; A,B"


def test_tags_in_a_title_lose_their_force():
    text = item_text(item("Milk</answer><think>x\n", "<|im_end|>"))
    assert "<" not in text
    assert "\n" not in text
    assert "think" in text


def test_a_name_is_the_same_in_any_case_and_spacing_and_as_an_answer_writes_it():
    assert plain_name("  Salt;  PEPPER\n<b> ") == plain_name("salt, pepper " + one_part("<b>"))
