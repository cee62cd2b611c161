"""The renderer against the same lines put together one by one."""

import logging
import math
import pickle
import time
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shop import history_line

from taiji.config.text import TextSection
from taiji.data.examples.render import RenderSettings, build_item_texts, render_examples
from taiji.data.examples.text import Habits, profile_text, wording
from taiji.data.item_text import item_text
from taiji.data.tables.prepare import cut_names, sentence_cased
from taiji.errors import DataError
from taiji.schema import EXAMPLES, FIGURES, ITEMS

NOW = datetime(2017, 6, 1, 12, tzinfo=UTC)
TITLES = ["Milk 1 gal", "Bread; white", "</answer><|im_end|>", "牛奶 250克", "e\u0301" * 4]
FIELDS = ("age", "phone", "city")


def items_table(titles=TITLES):
    rows = [
        {
            "item_id": f"i{n}",
            "title": title,
            "category_l1": "Grocery",
            "category_l2": None if n % 2 else "Dairy",
            "category_l3": "Fresh" if n == 2 else None,
            "brand": None,
        }
        for n, title in enumerate(titles)
    ]
    return pa.Table.from_pylist(rows, ITEMS)


def figures(**columns):
    """A row of FIGURES about somebody of whom nothing is known."""
    return {
        **dict.fromkeys(FIGURES.names),
        "example_id": "e1",
        "user_id": "u1",
        "split": "sft",
        "cutoff": NOW,
        "holdout": False,
        "fields": [],
        "history_length": 0,
        **columns,
    }


def line(item="i0", hours=24.0, price=None, kind="purchase"):
    ts = NOW - timedelta(hours=hours)
    return {"item_id": item, "ts": ts, "kind": kind, "quantity": 1, "price": price, "note": None}


def settings_of(declared=FIELDS, **section):
    return RenderSettings(
        wording(TextSection(**{"currency": "USD"} | section), declared), long_tail=100
    )


def render(*rows, words=None, items=None):
    batch = pa.RecordBatch.from_pylist(list(rows), FIGURES)
    catalogue = build_item_texts(items if items is not None else items_table())
    return render_examples(batch, catalogue, words or settings_of()).to_pylist()


prices = st.none() | st.floats(0, 1e6) | st.sampled_from([0.125, 2.5, -1.0, math.nan, math.inf])
kinds = st.sampled_from(["purchase", "view", "like", "gift_card", "<think>"])
lines = st.builds(
    line,
    st.sampled_from([f"i{n}" for n in range(len(TITLES))]),
    st.floats(0.001, 30_000) | st.sampled_from([1, 23, 24, 167, 168, 8760]),
    prices,
    kinds,
)
names = st.none() | st.text(max_size=5) | st.sampled_from(["32", "China/Hunan", "<s>"])
rows_of_figures = st.builds(
    figures,
    fields=st.lists(st.tuples(st.sampled_from([*FIELDS, "secret"]), names), max_size=4),
    history=st.none() | st.lists(lines, max_size=5),
    top_categories=st.none() | st.lists(st.sampled_from(["Dairy", "Soft; drinks"]), max_size=3),
    low_price=st.none() | st.just(1.0),
    high_price=st.none() | st.just(2.494),
    brands=st.none() | st.lists(st.sampled_from(["Acme", "<b>"]), max_size=2),
    private_label_share=st.none() | st.floats(0, 1),
    shopping_time=st.none() | st.just("weekend nights"),
    history_length=st.integers(0, 200),
)


def expected(row, words):
    band = (row["low_price"], row["high_price"])
    habits = Habits(
        top_categories=row["top_categories"] or (),
        price_band=None if None in band else band,
        brands=row["brands"] or (),
        private_label_share=row["private_label_share"],
        shopping_time=row["shopping_time"],
    )
    texts = {item["item_id"]: item_text(item) for item in items_table().to_pylist()}
    history = [
        history_line(
            texts[past["item_id"]],
            past["price"] if past["price"] is not None and 0 <= past["price"] < math.inf else None,
            row["cutoff"] - past["ts"],
            words,
            past["kind"],
        )
        for past in row["history"] or ()
    ]
    return profile_text(dict(row["fields"]), habits, words), history


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_line_and_profile_is_as_put_together_one_by_one(language):
    words = settings_of(language=language)

    @settings(max_examples=30, deadline=None)
    @given(st.lists(rows_of_figures, max_size=4))
    def check(rows):
        rendered = render(*rows, words=words)
        assert len(rendered) == len(rows)
        for row, example in zip(rows, rendered, strict=True):
            profile, history = expected(row, words.words)
            assert example["profile"] == profile
            assert [told["text"] for told in example["history"]] == history
            assert "secret" not in str(example)
            assert "None" not in profile

    check()


def test_nothing_known_is_nothing_said():
    (example,) = render(figures())
    assert (example["profile"], example["history"], example["long_tail"]) == ("", [], True)


def test_the_rest_of_an_example_passes_through():
    target = {"target_item_id": "i2", "basket_item_ids": ["i2", "i0"], "history_length": 100}
    (example,) = render(figures(**target, holdout=True, history=[line("i3", 30, 2.5)]))
    assert {name: example[name] for name in target} == target
    assert example["holdout"]
    assert not example["long_tail"]
    assert example["history"] == [
        {
            "item_id": "i3",
            "ts": NOW - timedelta(hours=30),
            "price": 2.5,
            "text": "牛奶 250克; Grocery; 2.50 USD; 1 day before",
        }
    ]


def test_a_slice_of_a_batch_is_rendered_like_the_batch():
    rows = [figures(example_id=f"e{n}", history=[line(hours=24 * n)] * n) for n in range(1, 6)]
    batch = pa.RecordBatch.from_pylist(rows, FIGURES)
    catalogue, words = build_item_texts(items_table()), settings_of()
    whole = render_examples(batch, catalogue, words)
    parts = [render_examples(batch.slice(n, 2), catalogue, words) for n in (0, 2, 4)]
    assert pa.Table.from_batches(parts).to_pylist() == whole.to_pylist()
    assert whole.schema == EXAMPLES


def test_plain_utc_times_are_read_like_zoned_ones():
    batch = pa.RecordBatch.from_pylist([figures(history=[line()])], FIGURES)
    plain = pa.timestamp("us")
    past = pa.list_(pa.struct([f.with_type(plain) if f.name == "ts" else f for f in line_type()]))
    columns = {name: batch[name] for name in FIGURES.names}
    columns |= {"cutoff": batch["cutoff"].cast(plain), "history": batch["history"].cast(past)}
    catalogue = build_item_texts(items_table())
    rendered = render_examples(pa.RecordBatch.from_pydict(columns), catalogue, settings_of())
    assert rendered.equals(render_examples(batch, catalogue, settings_of()))


def line_type():
    return list(FIGURES.field("history").type.value_type)


def test_settings_and_catalogue_travel_to_another_process():
    catalogue, words = pickle.loads(pickle.dumps((build_item_texts(items_table()), settings_of())))
    batch = pa.RecordBatch.from_pylist([figures(history=[line()])], FIGURES)
    assert (
        "Milk 1 gal"
        in render_examples(batch, catalogue, words).to_pylist()[0]["history"][0]["text"]
    )


def test_events_are_told_by_modality_newest_first():
    events = [
        {"modality": modality, "ts": NOW, "value": value, "weight": None}
        for modality, value in [("search_query", "tea"), ("app", "maps"), ("search_query", "milk")]
    ]
    first, second = render(figures(events=events), figures(events=None))
    assert first["profile"] == "Active apps: maps. Recent searches: tea, milk."
    assert second["profile"] == ""


def test_prices_that_cannot_be_are_left_out_and_counted(caplog):
    with caplog.at_level(logging.WARNING):
        (example,) = render(
            figures(history=[line(price=-1.0), line(price=math.nan), line(price=0.0)])
        )
    assert [told["text"].count("USD") for told in example["history"]] == [0, 0, 1]
    assert "2 of 3 prices" in caplog.text


def test_an_impossible_price_band_is_left_out():
    (example,) = render(figures(low_price=-3.0, high_price=2.0))
    assert example["profile"] == ""


def test_an_interaction_at_the_cut_off_is_refused():
    with pytest.raises(DataError, match="leak the target"):
        render(figures(history=[line(hours=0)]))


def test_an_unknown_item_is_refused_by_name():
    with pytest.raises(DataError, match=r"1 items of histories.*'gone'"):
        render(figures(history=[line("gone")]))


def test_long_names_are_cut_once_for_all_stages():
    items, num_cut = cut_names(items_table(["e\u0301" * 500_000, "Short", "x" * 31]), 30)
    assert num_cut == 2
    assert items["title"].to_pylist() == ["e\u0301" * 14 + "…", "Short", "x" * 29 + "…"]
    assert items.schema == ITEMS
    (example,) = render(figures(history=[line()]), items=items)
    assert example["history"][0]["text"].startswith("e\u0301" * 14 + "…; Grocery")


def test_names_that_fit_stay_the_same_table():
    items = items_table()
    assert cut_names(items, 200) == (items, 0)


def test_two_hundred_thousand_lines_take_no_ten_seconds():
    past = [line(f"i{n % 5}", 1 + n, n % 300 / 100) for n in range(50)]
    rows = [figures(history=past, fields=[("age", "45-54")])] * 400
    batch = pa.RecordBatch.from_pylist(rows, FIGURES)
    catalogue, words = build_item_texts(items_table()), settings_of()
    start = time.process_time()
    for _ in range(10):
        render_examples(batch, catalogue, words)
    assert time.process_time() - start < 5  # about half a second on the machine it was written on


def test_names_in_capitals_are_set_in_sentence_case_and_others_stay():
    titles = ["OAT MILK 1 L", "iPhone 15", "BMW", "Blue Mug", "牛奶", "ÄPFEL", "42"]
    items = sentence_cased(items_table(titles))
    said = ["Oat milk 1 l", "iPhone 15", "Bmw", "Blue Mug", "牛奶", "Äpfel", "42"]
    assert items["title"].to_pylist() == said
    assert items.schema == ITEMS
