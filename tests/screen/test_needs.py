from pathlib import Path

import pytest

from taiji.config import Recipe
from taiji.config.loading import load_recipe
from taiji.screen.needs import GIB, TRAINING_RATE, needs

RECIPES = Path(__file__).parents[2] / "recipes"
PAPER = load_recipe(RECIPES / "paper.yaml").recipe


def by_stage(recipe):
    return {need.stage: need for need in needs(recipe)}


def test_the_papers_recipe_fits_its_gpus():
    found = by_stage(PAPER)
    assert found["sft"].processes == found["align"].processes == 24
    for stage in ("sft", "align"):
        assert found[stage].device_bytes < 80 * GIB, stage
        assert found[stage].memory.total == found[stage].device_bytes
    assert found["distill"].tokens == 1_000_000 * (13_000 + 3 * 2_048)


def test_tokens_and_hours_of_sft_by_hand():
    # 1.5 M kept chains of 15,048 tokens; three forward passes' worth of 2 x 7.07e9 operations a
    # token (without the embedding) and attention to 6,500 tokens of 28 blocks of 3,584: 2.6e9
    need = by_stage(PAPER)["sft"]
    assert need.tokens == 1_500_000 * 15_048
    a_token = 2 * 7.07e9 + 4 * 28 * 3_584 * 6_500
    hours = 3 * need.tokens * a_token / TRAINING_RATE / 24 / 3600
    assert need.hours == pytest.approx(hours, rel=0.01)


def test_the_weights_of_one_process_are_sixteen_bytes_each_and_shares_of_them_less():
    one = PAPER.model_copy(update={"compute": Recipe(name="x").compute})
    memory = by_stage(one)["sft"].memory
    states = memory.weights + memory.gradients + memory.optimiser
    assert states / GIB == pytest.approx(16 * 7.62e9 / GIB, rel=0.01)
    shared = by_stage(PAPER)["sft"].memory
    assert shared.optimiser == pytest.approx(memory.optimiser / 24, rel=1e-6)


def test_a_rule_without_gradients_holds_none_by_reward():
    def held(rule):
        weights = PAPER.align.weights.model_copy(update={"rule": rule})
        align = PAPER.align.model_copy(update={"weights": weights})
        return by_stage(PAPER.model_copy(update={"align": align}))["align"].memory.by_reward

    assert held("popo_light") == 0
    assert held("popo") == 2 * by_stage(PAPER)["align"].memory.gradients


def test_of_an_unknown_student_nothing_is_said():
    assert needs(Recipe.model_validate({"name": "x", "student": {"model": "some/other"}})) == []
