"""The recipes of "Which log is yours?": each is short, is usable, and carries as far as it says."""

import pyarrow.compute as pc
import pytest
from ruamel.yaml import YAML
from which_logs import CARRIES, RECIPES, write_logs

from taiji.config import DataSection
from taiji.data.engine import open_engine
from taiji.data.examples.examples import draw_examples
from taiji.data.tables.check import check
from taiji.data.tables.prepare import prepare_tables
from taiji.schema import EXAMPLES
from taiji.store.files import read_parquet


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Six people for fifty days; stars below 4 and mere views are of the item `i5` alone."""
    monkeypatch.chdir(tmp_path)
    write_logs(tmp_path)
    return tmp_path


def test_the_page_has_these_recipes():
    assert list(RECIPES) == list(CARRIES)
    assert len(RECIPES) == 11


@pytest.mark.parametrize("title", CARRIES)
def test_a_recipe_of_the_page_carries_as_far_as_it_says(shop, title):
    text, known = RECIPES[title], CARRIES[title]
    assert len(text.splitlines()) <= 30
    tree = YAML(typ="safe").load(text)["data"] | {"exposure_share": 1.0, "min_history": 3}
    section = DataSection.model_validate(tree)
    assert (section.text.unsaid_kind, section.text.category_levels) == (
        known.kinds[0],
        known.levels,
    )
    for folder in ("check", "out"):
        (shop / folder).mkdir()
    with open_engine("duckdb", shop / "scratch-1") as engine:
        report = check(engine, section, 17, shop / "check")
    assert report.usable, report.problems
    assert report.contents.left_out() == known.left_out
    with open_engine("duckdb", shop / "scratch-2") as engine:
        contents = prepare_tables(engine, section, 17, shop / "out")[2]
        draw_examples(engine, section, 17, shop / "out" / "examples.parquet", known.kinds)
    assert (contents.left_out(), contents.goal) == (known.left_out, known.goal)
    assert contents.target_kinds == known.kinds
    assert contents.category_levels == known.levels
    examples = read_parquet(shop / "out" / "examples.parquet", EXAMPLES)
    counts = {r["values"]: r["counts"] for r in pc.value_counts(examples["split"]).to_pylist()}
    assert set(counts) == {"sft", "rl", "test", "rank_train", "rank_test"}
    if known.unwanted:
        assert "i5" not in set(examples["target_item_id"].to_pylist())  # it once was a target
    names = set(read_parquet(shop / "out" / "items.parquet")["title"].to_pylist())
    assert "damaged" not in names
