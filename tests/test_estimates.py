from pathlib import Path

from taiji.config import Recipe
from taiji.estimates import estimate_seconds, stage_size
from taiji.recipes import load_recipe

DEMO = load_recipe(Path(__file__).parent.parent / "recipes" / "demo.yaml").recipe


def test_every_stage_has_an_estimate_for_the_bundled_student():
    from taiji.pipeline import STAGES

    assert set(estimate_seconds(DEMO)) == {stage.name for stage in STAGES}


def test_an_unmeasured_student_has_none():
    other = Recipe.model_validate({"name": "x", "student": {"model": "some/other"}})
    assert estimate_seconds(other) == {}


def test_more_work_takes_longer():
    more = DEMO.model_copy(update={"align": DEMO.align.model_copy(update={"steps": 400})})
    assert estimate_seconds(more)["align"] > 10 * estimate_seconds(DEMO)["align"]
    assert stage_size("align", more) == "400 steps of 2 x 4"
