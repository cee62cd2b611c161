from pathlib import Path

from taiji.config import AlignSection, Recipe, WeightsSection
from taiji.config.loading import load_recipe
from taiji.ranking.comparison import plan_variants
from taiji.screen.estimates import estimate_seconds, stage_size

DEMO = load_recipe(Path(__file__).parents[2] / "recipes" / "demo.yaml").recipe


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


def test_a_rule_that_needs_gradients_costs_a_probe_wherever_it_moves(monkeypatch):
    monkeypatch.setattr("taiji.screen.estimates._matmul_speed", lambda: 1e11)

    def seconds(**settings):
        align = AlignSection(steps=400, weights=WeightsSection(**settings))
        return estimate_seconds(DEMO.model_copy(update={"align": align}))["align"]

    plain = seconds(rule="fixed")
    assert seconds(rule="popo_light") == plain
    assert seconds() > 1.3 * plain
    assert plain < seconds(every=10) < 0.8 * seconds()


def test_every_model_of_a_comparison_is_counted():
    controls = ("shuffled", "swapped", "random_neighbour", "reseeded")
    texts = ("policy", "sft")
    sections = {
        "features": {"texts": texts},
        "rank": {
            "arms": ("base", "cross", "both", "vectors"),
            "backbones": ("network", "lightgbm"),
            "seeds": 3,
            "controls": controls,
            "texts": texts,
        },
    }
    recipe = Recipe.model_validate({"name": "t", **sections})
    assert stage_size("rank", recipe) == f"{len(plan_variants(recipe.rank)) * 2 * 3} models"
