"""The recipes of "Which log is yours?": each is short, is usable, and carries as far as it says."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.compute as pc
import pytest
from ruamel.yaml import YAML

from taiji.config import DataSection
from taiji.data.engine import open_engine
from taiji.data.examples.examples import draw_examples
from taiji.data.tables.check import check
from taiji.data.tables.prepare import prepare_tables
from taiji.schema import EXAMPLES
from taiji.store.files import read_parquet

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
RECIPES = re.findall(
    r"^\*\*(.+?)\.?\*\*.*?```yaml\n(.*?)```",
    PAGE.partition("## Which log is yours?")[2].partition("\n## ")[0],
    re.MULTILINE | re.DOTALL,
)
RANKING = {"simulate", "rank", "abtest"}
CARRIES = {  # stages left out, goal, kinds that are foreseen
    "Purchases, nothing else": (RANKING, "click", ("purchase",)),
    "The same, with exposures that were drawn": ({"abtest"}, "click", ("purchase",)),
    "Ratings or reviews": (RANKING, "click", ("like",)),
    "Several kinds of behaviour": (RANKING, "click", ("purchase",)),
    "Impressions and clicks, no conversions": ({"abtest"}, "click", ("click",)),
    "Impressions, clicks and conversions": (set(), "conversion", ("purchase",)),
}


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Six people for fifty days; stars below 4 and mere views are of the item `i5` alone."""
    monkeypatch.chdir(tmp_path)
    lines = {name: [] for name in ("orders", "reviews", "events", "shown")}
    for who in range(6):
        for day in range(50):
            item = (who + day) % 6
            when = f"{datetime(2024, 1, 1, 8, tzinfo=UTC) + timedelta(days=day, hours=who):%FT%TZ}"
            lines["orders"].append(f"u{who},i{item},{when}")
            lines["reviews"].append(f"u{who},i{item},{when},{2 if item == 5 else 5}")
            lines["events"].append(f"u{who},i{item},{when},{'pv' if item == 5 else 'buy'}")
            clicked, bought = int(item != 5), int(item == 0)
            lines["shown"].append(f"u{who},i{item},{when},{clicked},{bought}")
    headers = {"reviews": ",stars", "events": ",what", "shown": ",clicked,bought"}
    (tmp_path / "shop").mkdir()
    for name, rows in lines.items():
        text = "\n".join([f"who,sku,when{headers.get(name, '')}", *rows, ""])
        (tmp_path / "shop" / f"{name}.csv").write_text(text, "utf-8")
    items = "".join(f"i{n},Tea {n},Drinks,Tea\n" for n in range(6))
    (tmp_path / "shop" / "items.csv").write_text("sku,name,department,aisle\n" + items, "utf-8")
    return tmp_path


def test_the_page_has_these_recipes():
    assert [title for title, _ in RECIPES] == list(CARRIES)


@pytest.mark.parametrize("number", range(len(RECIPES)), ids=list(CARRIES))
def test_a_recipe_of_the_page_carries_as_far_as_it_says(shop, number):
    text, (left_out, goal, kinds) = RECIPES[number][1], list(CARRIES.values())[number]
    assert len(text.splitlines()) <= 30
    tree = YAML(typ="safe").load(text)["data"] | {"exposure_share": 1.0, "min_history": 3}
    section = DataSection.model_validate(tree)
    for folder in ("check", "out"):
        (shop / folder).mkdir()
    with open_engine("duckdb", shop / "scratch-1") as engine:
        report = check(engine, section, 17, shop / "check")
    assert report.usable, report.problems
    assert report.contents.left_out() == left_out
    with open_engine("duckdb", shop / "scratch-2") as engine:
        contents = prepare_tables(engine, section, 17, shop / "out")[2]
        draw_examples(engine, section, 17, shop / "out" / "examples.parquet", kinds)
    assert (contents.left_out(), contents.goal) == (left_out, goal)
    assert contents.target_kinds == kinds
    examples = read_parquet(shop / "out" / "examples.parquet", EXAMPLES)
    counts = {r["values"]: r["counts"] for r in pc.value_counts(examples["split"]).to_pylist()}
    assert set(counts) == {"sft", "rl", "test", "rank_train", "rank_test"}
    if (goal == "click" and kinds != ("purchase",)) or number == 3:
        assert "i5" not in set(examples["target_item_id"].to_pylist())  # it once was a target
