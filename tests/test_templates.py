from dataclasses import asdict, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taiji.config import Recipe
from taiji.config.loading import load_recipe
from taiji.errors import ConfigError
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
