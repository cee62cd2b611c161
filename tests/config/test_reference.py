import ast
from pathlib import Path

import pytest

import taiji
from taiji.config import Recipe
from taiji.config.levels import EXPERT, PAPER, level
from taiji.config.loading import leaves
from taiji.config.reference import blocks, describe
from taiji.screen.settings import settings_page

SOURCE = Path(taiji.__file__).parent
DOCS = Path(__file__).parents[2] / "docs"
SETTINGS = [setting for block in blocks() for setting in block.settings]
PATHS = {setting.path for setting in SETTINGS}


def test_the_page_of_settings_is_what_the_code_says():
    written = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert written == settings_page(), "run: taiji config reference > docs/settings.md"


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.path)
def test_every_setting_says_what_it_is(setting):
    assert len(setting.description) >= 4


def test_levels_name_settings_that_exist():
    sections = {path.rpartition(".")[0] for path in PATHS}
    assert PATHS >= PAPER
    assert PATHS | sections >= EXPERT
    assert not PAPER & EXPERT


def test_a_setting_of_the_paper_says_what_the_paper_has():
    silent = {
        setting.path
        for setting in SETTINGS
        if setting.level == "paper"
        and not any(word in setting.description for word in ("paper", "Eq."))
    }
    assert not silent


def test_a_level_holds_for_all_below_a_section():
    assert level("ranker.boosting.leaves") == "expert"
    assert level("sft.epochs") == "paper"
    assert level("sft.batch_size") == "usual"
    assert level("scores") == "usual"


def test_a_recipe_has_words_for_each_of_its_leaves():
    recipe = Recipe.model_validate({"name": "x", "evaluate": {"models": {"mine": "folder"}}})
    known = {path for path, _, _ in describe(recipe)}
    for dotted, _ in leaves(recipe):
        assert dotted in known or dotted.rpartition(".")[0] in known, dotted


def test_types_are_in_words():
    types = {setting.path: setting.type for setting in SETTINGS}
    assert types["distill.candidates"] == "whole number, at least 1, at most 16"
    assert types["refine.top_m"] == "whole number or null"
    assert types["distill.teacher.kind"] == "`evidence`, `transformers`, `vllm` or `openai`"
    assert types["infer.models"] == "list of `untuned`, `sft` or `policy`"


def test_no_setting_is_read_by_nobody():
    """Each is an attribute that code reads, beyond the validators of its own section."""
    read: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path.parent.name == "config":
            tree = ast.Module(_without_validators(tree), [])
        read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named = {setting.path.rpartition(".")[2] for setting in SETTINGS}
    by_name = {"history", "reward", "rl", "ranker", "test", "exposures"}  # windows, and a table
    assert named - by_name - read - {"kind"} == set()


def _without_validators(tree: ast.Module) -> list[ast.stmt]:
    kept: list[ast.stmt] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names = ast.dump(ast.Module(list(map(ast.Expr, node.decorator_list)), []))
            if "validator" not in names:
                kept.append(node)
    return kept
