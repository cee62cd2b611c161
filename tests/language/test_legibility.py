"""Titles that a pair of models cannot read are found by a few of them."""

import numpy as np
import pytest

from taiji.config import Recipe
from taiji.language.legibility import Legibility, foreign_share, legibility
from taiji.stages.parts.legible import unreadable_titles

KOREAN = [f"녹차 {n}호" for n in range(40)]
RECIPE = Recipe(name="t")


def blind(texts):
    """As an encoder that has one word for all that it does not know."""
    return np.tile(np.array([1.0, 0.0], np.float32), (len(texts), 1))


def sharp(texts):
    angles = np.arange(len(texts)) * 0.5 * np.pi
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_letters_are_counted_and_nothing_else():
    assert foreign_share(["Blue mug 3", "Café ½ l", "123"]) == 0
    assert foreign_share(["녹차 tea"]) == pytest.approx(2 / 5)
    assert foreign_share([]) == foreign_share(["42"]) == 0


def test_a_blind_encoder_and_one_that_sees():
    found = legibility(KOREAN, blind, lambda text: 3 * len(text))
    assert found == Legibility(1.0, 3.0)
    assert legibility(KOREAN, sharp, len).median_cosine == pytest.approx(0, abs=1e-6)
    assert legibility(KOREAN[:1] * 5, blind, len) is None


@pytest.mark.parametrize(
    ("found", "codes"),
    [
        (None, []),
        (Legibility(0.3, 0.5), []),
        (Legibility(0.6, 0.5), ["W221"]),
        (Legibility(0.6, 1.5), ["W221", "W222"]),
        (Legibility(0.995, 0.5), ["E117"]),
    ],
)
def test_what_is_said_of_it(found, codes):
    assert [problem.code for problem in unreadable_titles(RECIPE, found)] == codes


def test_a_floor_above_what_the_encoder_gives_to_any_two_titles_is_enough():
    recipe = Recipe.model_validate({"name": "t", "align": {"rewards": {"cosine_floor": 0.8}}})
    assert not list(unreadable_titles(recipe, Legibility(0.6, 0.5)))
