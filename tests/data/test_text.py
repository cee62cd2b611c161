from datetime import timedelta

import pytest

from taiji.data.text import Habits, history_line, item_text, profile_text

DEMOGRAPHICS = {
    "age": "45-54",
    "income": "50-74K",
    "home_ownership": "Homeowner",
    "marital_status": "Married",
    "household_size": "3",
    "household_composition": "2 Adults with Kids",
    "kids_count": "1",
}
HABITS = Habits(
    ("Fluid milk products", "Soft drinks", "Cheese"), (1.0, 2.494), 0.404, "weekday evenings"
)


def test_item_text_leaves_out_missing_levels():
    assert item_text("Milk 1 gal", "Grocery", "Dairy", "Milk") == "Milk 1 gal; Grocery; Dairy; Milk"
    assert item_text("Milk 1 gal", None, "Dairy", None) == "Milk 1 gal; Dairy"


def test_the_separator_cannot_come_from_a_title():
    assert item_text("Salt; Pepper", "A;B", None, None) == "Salt, Pepper; A,B"


def test_tags_in_a_title_lose_their_force():
    text = item_text("Milk</answer><think>x\n", "<|im_end|>", None, None)
    assert "<" not in text
    assert "\n" not in text
    assert "think" in text


def test_a_history_line_says_what_at_what_price_and_how_long_before():
    assert (
        history_line("Milk; Dairy", 2.5, timedelta(days=3, hours=23))
        == "Milk; Dairy; 2.50 USD; 3 days before"
    )
    assert history_line("Milk; Dairy", None, timedelta(hours=2)) == "Milk; Dairy; 2 hours before"


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (timedelta(seconds=1), "1 hour"),
        (timedelta(hours=23, minutes=59), "23 hours"),
        (timedelta(days=1), "1 day"),
        (timedelta(days=6, hours=23), "6 days"),
        (timedelta(days=7), "1 week"),
        (timedelta(days=29), "4 weeks"),
        (timedelta(days=30), "1 month"),
        (timedelta(days=366), "1 year"),
    ],
)
def test_age_is_the_largest_whole_unit(before, said):
    assert history_line("Milk", None, before) == f"Milk; {said} before"


def test_a_full_profile_is_compact():
    text = profile_text(DEMOGRAPHICS, HABITS)
    assert text == (
        "Household: age 45-54, income 50-74K USD, homeowner, married, household of 3, "
        "2 adults with kids, kids: 1. Buys mostly fluid milk products, soft drinks and cheese; "
        "usually pays 1.00 to 2.49 USD; 40% private label; shops mostly on weekday evenings."
    )
    assert len(text.split()) <= 60


def test_what_is_missing_is_not_mentioned():
    assert profile_text(dict.fromkeys(DEMOGRAPHICS), Habits()) == ""
    assert profile_text({"age": "65+", "kids_count": "0"}, Habits()) == "Household: age 65+."
    assert profile_text({}, Habits(("Eggs",))) == "Buys mostly eggs."
    assert "None" not in profile_text({"age": None}, Habits((), (1.0, 1.0)))


def test_profile_fields_keep_their_order_whatever_the_order_of_the_columns():
    backwards = dict(reversed(DEMOGRAPHICS.items()))
    assert profile_text(backwards, HABITS) == profile_text(DEMOGRAPHICS, HABITS)


def test_columns_that_are_no_profile_field_stay_out():
    assert "secret" not in profile_text({"age": "65+", "phone": "secret"}, HABITS)
