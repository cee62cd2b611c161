"""How far a log carries: what is told before any work, and what the rows really hold."""

import pytest
from data_shop import shop, write_shop

from taiji.config import DataSection
from taiji.data.engine import open_engine
from taiji.data.tables.prepare import prepare_tables
from taiji.data.tables.reach import Contents, declared

SHOWN = {
    "files": "shown.csv",
    "user_id": "who",
    "item_id": "sku",
    "ts": "when",
    "click": "clicked",
}


def section_of(folder, shown=None, goal=None, **changes):
    source = shop(folder, **changes)
    if shown is not None:
        (folder / "shown.csv").write_text("who,sku,when,clicked,bought\n" + shown, "utf-8")
    return DataSection.model_validate({"source": source, "exposure_share": 1.0, "goal": goal})


def contents_of(section, out):
    out.mkdir()
    with open_engine("duckdb", out / "scratch") as engine:
        return prepare_tables(engine, section, 17, out)[2]


def test_complete_journey_lacks_nothing():
    contents = declared(DataSection())
    assert contents.lacks() == []
    assert contents.left_out() == frozenset()


def test_purchases_alone_leave_the_ranking_stages_out_and_say_how_to_get_them(tmp_path):
    section = section_of(write_shop(tmp_path))
    for contents in (declared(section), contents_of(section, tmp_path / "out")):
        assert contents.left_out() == {"simulate", "rank", "abtest"}
        said = [lack.what for lack in contents.lacks()]
        assert said == ["no exposures", "no profiles"]
        assert "data.sampled_negatives" in contents.lacks()[0].mend


def test_clicks_without_conversions_are_the_goal(tmp_path):
    rows = "ann,mug,2024-01-05T10:00:00Z,1,\nann,pot,2024-01-05T10:00:00Z,0,\n"
    section = section_of(write_shop(tmp_path), rows, exposures=SHOWN)
    for contents in (declared(section), contents_of(section, tmp_path / "out")):
        assert contents.goal == "click"
        assert contents.left_out() == {"abtest"}
        assert contents.lacks()[0].what == "no conversions"


def test_a_conversion_that_is_the_click_row_for_row_is_a_click(tmp_path):
    """Once the remedy for clicks alone; it ended in `49 clicks, 49 conversions`."""
    rows = "ann,mug,2024-01-05T10:00:00Z,1,1\nann,pot,2024-01-05T10:00:00Z,0,0\n"
    section = section_of(write_shop(tmp_path), rows, exposures=SHOWN | {"conversion": "bought"})
    assert declared(section).goal == "conversion"
    assert contents_of(section, tmp_path / "out").goal == "click"


def test_conversions_are_the_goal_unless_the_recipe_says_otherwise(tmp_path):
    rows = "ann,mug,2024-01-05T10:00:00Z,1,0\nann,pot,2024-01-05T10:00:00Z,1,1\n"
    exposures = SHOWN | {"conversion": "bought"}
    section = section_of(write_shop(tmp_path), rows, exposures=exposures)
    assert contents_of(section, tmp_path / "out").goal == "conversion"
    asked = section_of(tmp_path, rows, goal="click", exposures=exposures)
    assert contents_of(asked, tmp_path / "again").goal == "click"


@pytest.mark.parametrize(("levels", "what"), [(0, "no categories"), (1, "one category level")])
def test_few_categories_cost_figures_and_no_stage(levels, what):
    contents = Contents(category_levels=levels)
    assert [lack.what for lack in contents.lacks()] == [what]
    assert not contents.left_out()
    assert Contents(prices=0, profiles=0).left_out() == frozenset()


def test_contents_survive_a_file():
    contents = Contents(exposures=7, goal="click", target_kinds=("like", "save"))
    assert Contents.from_json(contents.to_json() | {"target_kinds": ["like", "save"]}) == contents
