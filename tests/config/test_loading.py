from datetime import date
from pathlib import Path

import pytest

from taiji.config import DataSection, Recipe, ShareWindows
from taiji.config.loading import dump_recipe, load_recipe
from taiji.errors import ConfigError
from taiji.stages.parts.preflight import check_trainer_settings

SHIPPED = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_validate(path):
    assert load_recipe(path).recipe.name == path.stem


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_trainer_settings_of_shipped_recipes_are_trls(path):
    check_trainer_settings(load_recipe(path).recipe)


@pytest.mark.parametrize("section", ["sft", "align"])
def test_an_unknown_trainer_setting_is_refused_before_any_work(tmp_path, section):
    loaded = load_recipe(write(tmp_path, "name: demo\n"), [f"{section}.trainer.warmup_step=3"])
    with pytest.raises(ConfigError, match=rf"{section}\.trainer\.warmup_step.*warmup_steps"):
        check_trainer_settings(loaded.recipe)


def test_numbers_and_words_are_read_as_yaml_1_2(tmp_path):
    path = write(tmp_path, "name: no\nsft: {learning_rate: 1e-7}\n")
    recipe = load_recipe(path).recipe
    assert recipe.name == "no"
    assert recipe.sft.learning_rate == 1e-7


def test_every_mistake_is_named_at_once_with_file_line_path_and_suggestion(tmp_path):
    path = write(
        tmp_path,
        "name: demo\nsft:\n  epoch: 2\n  batch_size: four\nrefine:\n  quantile: 1.5\n",
    )
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, ["align.stesp=3"])
    lines = str(caught.value).splitlines()
    assert f"{path}:3: sft.epoch: no such setting: did you mean epochs?" in lines
    assert any(
        line.startswith(f"{path}:4: sft.batch_size: ") and "'four'" in line for line in lines
    )
    assert any(line.startswith(f"{path}:6: refine.quantile: ") for line in lines)
    assert "command line: align.stesp: no such setting: did you mean steps?" in lines
    assert len(lines) == 4


def test_mistakes_in_a_teacher_are_found_on_their_line(tmp_path):
    path = write(
        tmp_path,
        "name: demo\ndistill:\n  teacher:\n    kind: openai\n    modle: x\n"
        "    base_url: http://localhost\n",
    )
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    lines = str(caught.value).splitlines()
    assert f"{path}:5: distill.teacher.modle: no such setting: did you mean model?" in lines
    assert f"{path}:3: distill.teacher.model: required, but not given" in lines


def test_overrides_replace_values_and_are_remembered(tmp_path):
    path = write(tmp_path, "name: demo\nsft:\n  epochs: 2\n")
    loaded = load_recipe(path, ["sft.epochs=3.5", "ranker.hidden=[8, 4]"])
    assert loaded.recipe.sft.epochs == 3.5
    assert loaded.recipe.ranker.hidden == (8, 4)
    assert loaded.origin("sft.epochs") == "command line"
    assert loaded.origin("name") == f"{path}:1"
    assert loaded.origin("align.weights.rule") == "default"


@pytest.mark.parametrize("override", ["sft.epochs", "=3", "name.x=1", "sft..epochs=1", "sft.x=[1"])
def test_a_broken_override_is_refused(tmp_path, override):
    with pytest.raises(ConfigError, match=r"name|sft|=3"):
        load_recipe(write(tmp_path, "name: demo\n"), [override])


@pytest.mark.parametrize("text", ["", "- a\n", "name: [\n", "name: a\nname: b\n", "name: ../x\n"])
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match=r"recipe\.yaml"):
        load_recipe(write(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("initial={semantic: 0.5, preference: 0.6}", "sum to 1"),
        ("initial={semantic: 1.0, preference: 0.0}", "sum to 1"),
        ("initial={}", "sum to 1"),
        ("initial={semantic: 1.0}", "one weight for each of semantic, preference"),
        ("initial={semantic: 0.5, preferences: 0.5}", "one weight for each"),
        ("floor=0.5", "below 1 / 2"),
        ("warmup_steps=100", "fewer than steps"),
        ("floor=-0.1", "floor"),
        ("rule=best", "popo_split"),
        ("max_log_step=0", "max_log_step"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(write(tmp_path, "name: demo\n"), [f"align.weights.{override}"])


def test_no_initial_weight_may_lie_below_the_floor(tmp_path):
    overrides = [
        "align.weights.initial={semantic: 0.9, preference: 0.1}",
        "align.weights.floor=0.2",
    ]
    with pytest.raises(ConfigError, match="no initial weight below it"):
        load_recipe(write(tmp_path, "name: demo\n"), overrides)


def test_a_dumped_recipe_loads_to_the_same(tmp_path):
    recipe = Recipe.model_validate({"name": "x", "distill": {"teacher": {"kind": "transformers"}}})
    assert load_recipe(write(tmp_path, dump_recipe(recipe))).recipe == recipe


def test_sections_that_do_not_fit_each_other_are_refused_by_name(tmp_path):
    overrides = ["rank.texts=[policy, sft]", "features.texts=[policy, sft]"]
    with pytest.raises(ConfigError, match=r"recipe\.yaml: .*rank\.texts: sft: no features"):
        load_recipe(write(tmp_path, "name: demo\n"), overrides[:1])
    assert load_recipe(write(tmp_path, "name: demo\n"), overrides).recipe


def test_a_custom_reward_is_named_by_its_key(tmp_path):
    text = "name: demo\nalign:\n  rewards:\n    custom:\n      - {name: mine, path: rewards.py}\n"
    with pytest.raises(ConfigError, match=r"yaml:4: align\.rewards\.custom\.0\.path"):
        load_recipe(write(tmp_path, text))


# What the paper states of its own setting, in the words of a recipe.
STATED = {
    "data.history_items": 50,
    "data.neighbour_items": 100,
    "data.num_sft": 1_000_000,
    "data.num_rl": 100_000,
    "data.num_test": 10_000,
    "student.model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
    "student.max_prompt_tokens": 13_000,
    "student.max_completion_tokens": 2_048,
    "encoder.model": "Qwen/Qwen3-Embedding-0.6B",
    "distill.candidates": 3,
    "distill.teacher.model": "Qwen/QwQ-32B",
    "refine.quantile": 0.5,
    "refine.threshold_sample": 2_300,
    "sft.epochs": 1.0,
    "sft.loss": "sequence_sum",
    "sft.learning_rate": 1e-7,
    "sft.batch_size": 24 * 32,
    "compute.training.processes": 8,
    "compute.training.machines": 3,
    "simulate.normaliser": "minmax",
    "align.weights.rule": "popo",
    "align.num_generations": 4,
    "align.learning_rate": 2e-5,
    "align.loss_type": "grpo",
}


@pytest.mark.parametrize("setting", STATED)
def test_the_papers_recipe_says_what_the_paper_says(setting):
    value = load_recipe(next(path for path in SHIPPED if path.stem == "paper")).recipe.model_dump()
    for key in setting.split("."):
        value = value[key]
    assert value == STATED[setting]


SHOP = {
    "kind": "tables",
    "items": {"files": "i.csv", "item_id": "i", "title": "t"},
    "interactions": {
        "files": "o.csv",
        "user_id": "u",
        "item_id": "i",
        "ts": {"column": "t", "timezone": "Europe/Berlin"},
    },
}


def test_what_belongs_to_one_data_set_is_no_default_of_another():
    """Dates of 2017, New York and dollars are Complete Journey's; a shop of 2024 got them too."""
    journey, shop = DataSection(), DataSection.model_validate({"source": SHOP})
    assert journey.splits.timezone == "America/New_York"
    assert journey.splits.windows.test == date(2017, 11, 13)
    assert journey.text.currency == "USD"
    assert shop.splits.timezone == "Europe/Berlin"  # the clock that its times are written by
    assert shop.splits.windows == ShareWindows()
    assert shop.text.currency is None
    utc = DataSection.model_validate({"source": {"kind": "movielens", "path": "x"}})
    assert utc.splits.timezone == "UTC"


def test_what_the_recipe_says_goes_before_what_is_usual_for_the_source():
    section = DataSection.model_validate(
        {
            "splits": {"windows": {"kind": "dates", "test": "2017-12-01"}, "period_days": 3},
            "text": {"currency": "EUR"},
        }
    )
    assert section.splits.timezone == "America/New_York"
    assert section.splits.windows.test == date(2017, 12, 1)
    assert section.splits.windows.rl == date(2017, 8, 7)
    assert section.splits.period_days == 3
    assert section.text.currency == "EUR"
    shares = DataSection.model_validate({"splits": {"windows": {"kind": "shares"}}})
    assert shares.splits.windows == ShareWindows()
    assert DataSection.model_validate(section.model_dump(mode="json")) == section


def test_another_kind_on_the_command_line_begins_anew(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: x\ninfer: {engine: {kind: transformers, batch_size: 8}}\n")
    overrides = ["infer.engine.model=any", "infer.engine.kind=openai"]
    overrides.append("infer.engine.base_url=http://127.0.0.1:1/v1")
    engine = load_recipe(recipe, overrides).recipe.infer.engine
    assert (engine.kind, engine.model) == ("openai", "any")
    same = load_recipe(recipe, ["infer.engine.kind=transformers"]).recipe.infer.engine
    assert same.batch_size == 8


@pytest.mark.parametrize("name", ["policy", "prompt", "most_popular"])
def test_a_model_cannot_be_called_what_tables_call_somebody_else(name):
    with pytest.raises(ValueError, match=f"{name}: a name of every table"):
        Recipe.model_validate({"name": "x", "evaluate": {"models": {name: "folder"}}})


@pytest.mark.parametrize(
    ("teacher", "mode", "said"),
    [({}, "rupr", "set encoder"), ({"encoder": "all-minilm-l6-v2"}, "direct", "mode direct")],
)
def test_meaning_alone_is_refused_where_nothing_can_be_meant(teacher, mode, said):
    section = {"mode": mode, "teacher": {"kind": "evidence", "only_meant": True, **teacher}}
    with pytest.raises(ValueError, match=said):
        Recipe.model_validate({"name": "x", "distill": section})
