from datetime import timedelta

import pytest
from shop import history_line

from taiji.config.text import FieldSection, TextSection
from taiji.data.examples.fields import FACTS
from taiji.data.examples.text import Habits, profile_text, wording
from taiji.errors import ConfigError

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
    top_categories=("Fluid milk products", "Soft drinks", "Cheese"),
    price_band=(1.0, 2.494),
    private_label_share=0.404,
    shopping_time="weekday evenings",
)


def words(declared=tuple(DEMOGRAPHICS), **settings):
    return wording(TextSection(**{"currency": "USD"} | settings), declared)


WORDS = words()


def test_a_history_line_says_what_at_what_price_and_how_long_before():
    assert (
        history_line("Milk; Dairy", 2.5, timedelta(days=3, hours=23), WORDS)
        == "Milk; Dairy; 2.50 USD; 3 days before"
    )
    assert history_line("Milk", None, timedelta(hours=2), WORDS) == "Milk; 2 hours before"


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (timedelta(seconds=1), "1 minute"),
        (timedelta(minutes=59), "59 minutes"),
        (timedelta(minutes=119), "1 hour"),
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
    assert history_line("Milk", None, before, WORDS) == f"Milk; {said} before"


def test_a_full_profile_is_compact():
    text = profile_text(DEMOGRAPHICS, HABITS, WORDS)
    assert text == (
        "Household: age 45-54, income 50-74K USD, homeowner, married, household of 3, "
        "2 adults with kids, kids: 1. Buys mostly fluid milk products, soft drinks and cheese; "
        "usually pays 1.00 to 2.49 USD; 40% private label; shops mostly on weekday evenings."
    )
    assert len(text.split()) <= 60


def test_no_category_is_named_twice():
    """One name may stand under two parents."""
    habits = Habits(top_categories=("Tea", "TEA", "Mugs"))
    assert profile_text({}, habits, WORDS) == "Buys mostly tea and mugs."


def test_readers_do_not_buy():
    readers = words(unsaid_kind="read")
    habits = Habits(top_categories=("News",), shopping_time="weekday evenings")
    assert profile_text({}, habits, readers) == (
        "Interested mostly in news; active mostly on weekday evenings."
    )
    assert history_line("A goal", None, timedelta(1), readers, "read") == "A goal; 1 day before"
    assert "listened to; " in history_line("A song", None, timedelta(1), readers, "listen")


def test_what_is_missing_is_not_mentioned():
    assert profile_text(dict.fromkeys(DEMOGRAPHICS), Habits(), WORDS) == ""
    assert profile_text({"age": "65+", "kids_count": "0"}, Habits(), WORDS) == (
        "Household: age 65+."
    )
    assert profile_text({}, Habits(("Eggs",)), WORDS) == "Buys mostly eggs."
    assert "None" not in profile_text({"age": None}, Habits((), (1.0, 1.0)), WORDS)


def test_profile_fields_keep_their_order_whatever_the_order_of_the_columns():
    backwards = dict(reversed(DEMOGRAPHICS.items()))
    assert profile_text(backwards, HABITS, WORDS) == profile_text(DEMOGRAPHICS, HABITS, WORDS)


def test_columns_that_are_no_profile_field_stay_out():
    assert "secret" not in profile_text({"age": "65+", "phone": "secret"}, HABITS, WORDS)


def told(person, **settings):
    return profile_text(person, Habits(), words(tuple(person), **settings))


def test_the_allow_list_decides_what_is_told_and_in_which_order():
    person = {"gender": "female", "phone": "X1", "city": "Hunan", "id_card": "4301"}
    text = told(person, fields=("city", "gender"))
    assert text == "User: lives in Hunan, female."
    assert told(person, fields=()) == ""


@pytest.mark.parametrize("setting", [{"fields": ("gendre",)}, {"profile": {"gendre": {}}}])
def test_a_field_that_the_source_lacks_is_refused_with_a_suggestion(setting):
    with pytest.raises(ConfigError, match=r"gendre: no field.*did you mean gender"):
        words(("gender", "age"), **setting)


@pytest.mark.parametrize(
    ("age", "said"),
    [
        ("17", "under 18"),
        ("18", "18-24"),
        ("34.0", "25-34"),
        ("65", "65+"),
        ("119", "65+"),
        ("45-54", "45-54"),
        ("65+", "65+"),
    ],
)
def test_an_age_is_told_as_its_band(age, said):
    assert told({"age": age}) == f"User: age {said}."


@pytest.mark.parametrize("value", ["1980-03-04", "born in 1980", "-3", "1e3", "nan", " "])
def test_an_age_that_cannot_be_made_coarse_is_not_told(value):
    assert told({"age": value}) == ""


def test_bands_are_a_setting():
    section = {"age": FieldSection(bands=(30, 31, 60))}
    assert [told({"age": age}, profile=section) for age in ("29", "30", "59", "60")] == [
        "User: age under 30.", "User: age 30.", "User: age 31-59.", "User: age 60+.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "levels", "said"),
    [
        ("China/Hunan/Changsha/Lushan Road 3", 1, "China"),
        ("China/Hunan/Changsha/Lushan Road 3", 2, "China Hunan"),
        ("China/Hunan/Changsha/Lushan Road 3", 9, "China Hunan Changsha"),
        ("410082", 3, None),
        ("28.2,112.9", 3, None),
        ("Hunan", 2, "Hunan"),
    ],
)
def test_a_place_keeps_its_largest_parts_and_no_number(place, levels, said):
    profile = {"home": FieldSection(kind="place", levels=levels, pattern="from {value}")}
    expected = f"User: from {said}." if said else ""
    assert told({"home": place}, profile=profile) == expected


def test_places_and_ages_are_known_by_name_in_both_languages():
    fields = {"城市": "湖南/长沙/岳麓区", "年龄": "27", "手机型号": "华为"}
    assert told(fields, language="zh") == "用户：现居湖南，年龄25-34。设备：手机型号：华为。"


def test_device_and_lifestyle_have_sentences_of_their_own():
    fields = {"Phone model": "X1", "pets": "two Cats", "gender": "female", "plan": "gold"}
    assert told(fields) == (
        "User: female, plan: gold. Device: Phone model: X1. Lifestyle: pets: two Cats."
    )


def test_the_whole_profile_in_chinese():
    habits = Habits(
        top_categories=("乳制品", "T恤", "零食"),
        price_band=(9.9, 49.0),
        brands=("蒙牛", "伊利"),
        shopping_time="weekend nights",
        events={"search_query": ["燕麦奶", "燕麦奶", "茶"], "coupon": ["满减"]},
    )
    text = profile_text({"gender": "女"}, habits, words(("gender",), language="zh", currency="CNY"))
    assert text == (
        "用户：性别女。主要购买乳制品、T恤和零食；通常花费9.90到49.00元；偏爱品牌蒙牛和伊利；"
        "多在周末深夜活跃。最近搜索：燕麦奶、茶。最近coupon：满减。"
    )
    line = history_line(
        "牛奶; 乳制品", 9.9, timedelta(days=65), words(language="zh", currency="CNY"), "view"
    )
    assert line == "牛奶; 乳制品; 9.90元; 浏览; 2个月前"


def test_recent_events_are_told_in_english_too():
    habits = Habits(brands=("Acme",), events={"search_query": ["oat <milk>", " "], "app": []})
    assert profile_text({}, habits, WORDS) == (
        "Favours the brands Acme. Recent searches: oat \u2039milk\u203a."
    )


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("purchase", ""),
        ("view", "viewed; "),
        ("gift_card", "gift card; "),
        ("<s>", "\u2039s\u203a; "),
    ],
)
def test_a_kind_is_said_unless_it_is_taken_for_granted(kind, said):
    line = history_line("Milk", 1.0, timedelta(days=1), WORDS, kind)
    assert line == f"Milk; 1.00 USD; {said}1 day before"


def test_the_kind_taken_for_granted_is_a_setting():
    viewers = words(unsaid_kind="view")
    assert history_line("Milk", None, timedelta(1), viewers, "view") == "Milk; 1 day before"
    assert "bought" in history_line("Milk", None, timedelta(1), viewers, "purchase")


def test_words_of_the_recipe_stand_in_place_of_ours():
    mine = words(templates={"household": "Family", "price": "{currency} {amount}"}, currency="EUR")
    assert profile_text({"age": "65+"}, Habits(), mine) == "Family: age 65+."
    assert history_line("Milk", 2.5, timedelta(1), mine) == "Milk; EUR 2.50; 1 day before"


def test_data_is_never_read_as_a_template():
    text = told({"note": "{value} {currency} {0.__class__}", "gender": "{label}"})
    assert text == "User: note: {value} {currency} {0.__class__}, {label}."


def test_long_values_are_cut():
    assert told({"note": "x" * 300}) == f"User: note: {'x' * 199}\u2026."
    assert len(told({"note": "x" * 10**6})) < 250


def test_both_languages_know_the_same_fields():
    assert FACTS["en"].keys() == FACTS["zh"].keys()
