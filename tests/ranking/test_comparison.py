import numpy as np
import pytest
from pydantic import ValidationError

from taiji.config import RankSection
from taiji.ranking.comparison import (
    plan_contrasts,
    plan_variants,
    random_others,
    reseed,
    swapped,
    with_sequences,
)
from taiji.ranking.inputs import LanguageFeatures

USERS = tuple(f"u{n}" for n in range(30))


def features(users=USERS):
    rows = np.arange(len(users) + 1, dtype=np.int32)[:, None]
    rows[-1] = -1
    return LanguageFeatures(users, rows, rows + 0, 30, rows.astype(np.float32))


def test_everybody_gets_somebody_elses_features_whole():
    found = swapped(features(), "1")
    donors = found.codes[:-1, 0]
    assert sorted(donors) == list(range(30))
    assert (donors != np.arange(30)).all()
    assert (found.neighbour_items[:-1, 0] == donors).all()
    assert (found.vectors[:-1, 0] == donors).all()
    assert found.codes[-1] == -1, "users without features stay without"
    assert (swapped(features(), "2").codes != found.codes).any()


def test_the_other_is_the_same_in_both_splits_but_for_a_few_who_miss_one():
    early = random_others(USERS, "1")
    late = random_others(USERS[2:], "1")
    by_late = {user: USERS[2:][row] for user, row in zip(USERS[2:], late, strict=True)}
    same = [USERS[row] == by_late.get(user) for user, row in zip(USERS, early, strict=True)]
    assert sum(same) >= 26


def test_other_sequences_are_cut_and_padded():
    language = features()
    language = LanguageFeatures(
        USERS[:2], language.codes[:3], np.full((3, 2), 7), 30, language.vectors[:3]
    )
    found = with_sequences(language, [["b", "a", "c"], []], ["a", "b", "c"])
    assert found.neighbour_items.tolist() == [[1, 0], [-1, -1], [-1, -1]]


def test_controls_stand_beside_the_arms_that_they_spoil():
    section = RankSection(
        arms=("base", "cross", "both"),
        controls=("shuffled", "random_neighbour", "reseeded"),
        texts=("policy", "sft"),
    )
    variants = plan_variants(section)
    assert [variant.name for variant in variants] == [
        *("base", "cross", "both"),
        *("both:shuffled", "cross:random_neighbour", "base:reseeded"),
        "both:sft",
    ]
    kinds = {contrast.name: contrast.kind for contrast in plan_contrasts(variants)}
    assert kinds == {
        "cross - base": "lift",
        "both - base": "lift",
        "both:sft - base": "lift",
        "both:shuffled - base": "control",
        "cross:random_neighbour - base": "control",
        "base:reseeded - base": "control",
        "both - both:shuffled": "loss",
        "cross - cross:random_neighbour": "loss",
        "both - both:sft": "loss",
    }
    assert {sum(contrast.weights.values()) for contrast in plan_contrasts(variants)} == {0}
    assert len({reseed(variant, 17) for variant in variants}) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arms": ["base"], "controls": ["shuffled"]}, "shuffled: has no arm to stand beside"),
        ({"arms": ["base", "both"], "controls": ["random_neighbour"]}, "add cross"),
        ({"arms": ["base", "intra"], "texts": ["policy", "sft"]}, "sft: has no arm"),
        ({"texts": ["sft"]}, "keep it in the list"),
        ({"arms": ["base", "base"]}, "stands there twice"),
        ({"backbones": ["forest"]}, "pattern"),
    ],
)
def test_settings_without_an_effect_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        RankSection(**settings)
