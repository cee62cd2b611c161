import re
from dataclasses import asdict, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from taiji.config import Recipe
from taiji.config.loading import dump_recipe, load_recipe
from taiji.errors import ConfigError
from taiji.screen.settings import words_file
from taiji.templates import CHINESE, ENGLISH, Templates, fill, gaps, resolve_templates

NAMES = [field.name for field in fields(Templates)]


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_say_the_same_things(name):
    assert gaps(getattr(CHINESE, name)) <= gaps(getattr(ENGLISH, name))
    assert bool(gaps(getattr(CHINESE, name))) == bool(gaps(getattr(ENGLISH, name)))


def test_chinese_has_no_english_words():
    texts = [text.replace("<think></think>", "").replace("<answer></answer>", "")
             for text in asdict(CHINESE).values()]  # fmt: skip
    for text in texts:
        for gap in gaps(text):
            text = text.replace(f"{{{gap}}}", "")
        assert not any("a" <= char.lower() <= "z" for char in text)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("houshold", "x", "did you mean household"),
        ("zzz", "x", "known: active_hours"),
        ("price_band", "{low} {0}", r"it takes \{currency\} \{high\} \{low\}"),
        ("price_band", "{low.__class__}", "only name a gap"),
        ("price_band", "{low!r}", "only name a gap"),
        ("price_band", "{low:>9999999}", "only name a gap"),
        ("price_band", "{names}", "only name a gap"),
        ("price_band", "{low", "only name a gap"),
        ("price_band", "{{low}}", "only name a gap"),
        ("price_band", "cheap", "says nothing of the data"),
        ("person", "{label}", "it takes no gap"),
        ("person", "Us\x00er", "control character"),
        ("person", "Us\ud800er", "control character"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused_when_the_recipe_is_read(name, text, message):
    with pytest.raises(ValueError, match=message):
        resolve_templates("en", {name: text})
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate({"name": "t", "data": {"text": {"templates": {name: text}}}})


def test_every_template_can_be_replaced_alone():
    for name in NAMES:
        replaced = resolve_templates("zh", {name: getattr(ENGLISH, name)})
        assert asdict(replaced) == asdict(CHINESE) | {name: getattr(ENGLISH, name)}


def test_a_log_without_purchases_has_no_shoppers():
    words = resolve_templates("en", {}, kind="read")
    assert words.student_system == (
        "From a user's profile and the items read, reason to the next item they read."
    )
    assert words.history_heading == "Items read, newest first:"
    everything = " ".join(asdict(words).values()).lower()
    assert not re.search("shop|purchas|buys", everything)
    assert "购" not in resolve_templates("zh", {}, kind="click").student_system
    # Whatever a recipe says stands, and purchases are spoken of as ever.
    mine = resolve_templates("en", {"history_heading": "Seen:"}, kind="view")
    assert mine.history_heading == "Seen:"
    assert resolve_templates("en", {}, kind="purchase") == ENGLISH


def test_a_kind_of_the_users_own_is_told_by_its_name():
    words = resolve_templates("en", {}, kind="gift_card")
    assert words.history_heading == "Items gift card, newest first:"
    assert "the next item they choose" in words.student_system


@pytest.mark.parametrize(
    ("levels", "form"),
    [
        (0, "write the next item as its title inside"),
        (1, "as title; level 1 inside"),
        (2, "as title; level 1; level 2 inside"),
        (3, "as title; level 1; level 2; level 3 inside"),
    ],
)
def test_answers_are_asked_for_no_more_levels_than_there_are(levels, form):
    assert form in resolve_templates("en", {}, levels=levels).student_format
    for language in ("en", "zh"):
        words = resolve_templates(language, {}, levels=levels)
        for name in ("student_format", "student_format_list", "direct_task"):
            asked = re.findall("level [123]|[一二三]级", getattr(words, name))
            assert len(asked) == levels


def test_a_language_of_ones_own_is_one_file(tmp_path):
    words = YAML(typ="safe").load(words_file("en"))
    assert words == asdict(ENGLISH)
    words |= {"student_system": "다음에 살 상품을 고르세요.", "history_heading": "구매 내역:"}
    path = tmp_path / "ko.yaml"
    with path.open("w", encoding="utf-8") as stream:
        YAML().dump(words, stream)
    text = {"language": "other", "words": str(path)}
    recipe = Recipe.model_validate({"name": "t", "data": {"text": text}})
    assert recipe.data.text.resolved().history_heading == "구매 내역:"
    # A saved recipe needs the file no more.
    path.unlink()
    (tmp_path / "saved.yaml").write_text(dump_recipe(recipe), "utf-8")
    assert load_recipe(tmp_path / "saved.yaml").recipe == recipe


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("student_system: 'x'", "no template for student_format"),
        ("- a", "expected a name and a text"),
        ("price: 3", "expected a name and a text"),
        ("prcie: '{amount}'", "did you mean price"),
        (None, "no such file"),
    ],
)
def test_a_file_of_words_that_cannot_work_is_refused_when_the_recipe_is_read(
    tmp_path, content, message
):
    path = tmp_path / "ko.yaml"
    if content is not None:
        path.write_text(content)
    text = {"language": "other", "words": str(path)}
    with pytest.raises(ValueError, match=message):
        Recipe.model_validate({"name": "t", "data": {"text": text}})


@given(st.text(), st.text())
def test_a_value_is_never_read_as_a_template(low, high):
    out = fill("{low}|{high}", low=low + "{high}", high=high + "{low}{0.__class__}")
    assert out == f"{low}{{high}}|{high}{{low}}{{0.__class__}}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.text.language=fr", "data.text.language"),
        ("data.text.currency=dollar", "data.text.currency"),
        ("data.text.templates.houshold=x", "did you mean household"),
        ("data.text.profile.city.pattern=near", "template pattern: says nothing"),
        ("data.text.profile.city.pattern='{currency}'", "needs {value}"),
        ("data.text.profile.age.bands=[30, 20]", "must rise"),
        ("data.text.profile.city.levels=0", "data.text.profile.city.levels"),
        ("data.text.max_title_characters=2", "data.text.max_title_characters"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, override, message):
    path = tmp_path / "recipe.yaml"
    path.write_text("name: t\n")
    with pytest.raises(ConfigError) as error:
        load_recipe(path, [override])
    assert message in str(error.value)


def test_an_unknown_setting_of_a_field_is_refused_with_a_suggestion(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("name: t\n")
    with pytest.raises(ConfigError, match=r"data.text.profile.city.levles.*did you mean levels"):
        load_recipe(path, ["data.text.profile.city.levles=2"])
