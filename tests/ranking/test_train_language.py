import dataclasses

import market
import numpy as np
import pytest
from ranker_parts import (
    NUM_ITEMS,
    SECTION,
    auc_for_new_users,
    random_features,
    relabel,
    split_users,
)
from weeks import week_start

from taiji.errors import DataError
from taiji.evaluation.metrics import auc
from taiji.ranking.inputs import NO_LANGUAGE, Inputs
from taiji.ranking.train import fit_ranker, predict


def test_a_code_that_knows_something_raises_auc_by_what_it_knows(crowd):
    pairs, labels = crowd
    language, noise = (random_features(pairs, NUM_ITEMS, seed) for seed in (0, 9))
    knows = language.codes[language.rows(pairs.user_ids), 1] < 2
    planted = relabel(labels, np.where(knows, 0.4, 0.1))
    blind = auc_for_new_users(pairs, planted, NO_LANGUAGE)
    told = auc_for_new_users(pairs, planted, language.for_arm("intra"))
    misled = auc_for_new_users(pairs, planted, noise.for_arm("intra"))
    test = split_users(pairs)[1]
    assert told == pytest.approx(auc(planted.click[test], knows[test]), abs=0.03)
    assert told > blind + 0.1
    assert misled < blind + 0.03


def test_a_neighbour_who_bought_from_the_shelf_is_noticed(crowd):
    pairs, labels = crowd
    language = random_features(pairs, NUM_ITEMS)
    borrowed = language.neighbour_items[language.rows(pairs.user_ids)]
    target = pairs.fields["item"].codes
    knows = (pairs.item_l3[borrowed] == pairs.item_l3[target][:, None]).any(axis=1)
    planted = relabel(labels, np.where(knows, 0.5, 0.1))
    blind = auc_for_new_users(pairs, planted, NO_LANGUAGE)
    told = auc_for_new_users(pairs, planted, language.for_arm("cross"))
    test = split_users(pairs)[1]
    assert told == pytest.approx(auc(planted.click[test], knows[test]), abs=0.03)
    assert told > blind + 0.1


def test_a_direction_of_the_vectors_that_knows_something_raises_auc_by_what_it_knows(crowd):
    pairs, labels = crowd
    language = random_features(pairs, NUM_ITEMS)
    knows = language.vectors[language.rows(pairs.user_ids), 2] > 0
    planted = relabel(labels, np.where(knows, 0.4, 0.1))
    told = auc_for_new_users(pairs, planted, language.for_arm("vectors"))
    test = split_users(pairs)[1]
    assert told == pytest.approx(auc(planted.click[test], knows[test]), abs=0.04)


@pytest.mark.parametrize(
    ("arm", "widths"),
    [
        ("base", (0, 0, 0, 0)),
        ("intra", (3, 4, 0, 0)),
        ("cross", (0, 0, 5, 0)),
        ("both", (3, 4, 5, 0)),
        ("vectors", (0, 0, 0, 6)),
    ],
)
def test_each_arm_sees_its_blocks_and_users_without_features_are_served(window, arm, widths):
    pairs, labels = window("rl")
    full = random_features(pairs, NUM_ITEMS)
    half = dataclasses.replace(
        full,
        user_ids=full.user_ids[:20],
        codes=np.delete(full.codes, slice(20, -1), axis=0),
        neighbour_items=np.delete(full.neighbour_items, slice(20, -1), axis=0),
        vectors=np.delete(full.vectors, slice(20, -1), axis=0),
    ).for_arm(arm)
    ranker = fit_ranker(pairs, labels, SECTION, seed=1, language=half)
    shape = ranker.model.shape
    assert (shape.sub_codes, shape.num_codes, shape.neighbour_items, shape.vector_width) == widths
    assert np.isfinite(predict(ranker, pairs, half).ctcvr).all()


def test_features_of_another_arm_are_refused(window):
    pairs, labels = window("rl")
    ranker = fit_ranker(pairs, labels, SECTION, seed=1)
    with pytest.raises(DataError, match="trained with"):
        predict(ranker, pairs, random_features(pairs, NUM_ITEMS))


@pytest.mark.parametrize("attention", ["dot", "din"])
def test_candidates_of_one_user_score_as_they_do_in_company(window, asof, attention):
    pairs, labels = window("rl")
    language = random_features(pairs, NUM_ITEMS).for_arm("both")
    section = SECTION.model_copy(update={"attention": attention, "epochs": 1})
    ranker = fit_ranker(pairs, labels, section, seed=1, language=language)
    asked = [(user, item, week_start(40)) for user in ("u000", "u001") for item in asof.item_ids]
    both = predict(ranker, asof.features(market.pairs(*asked)), language).ctcvr
    alone = asof.features(market.pairs(*asked[:NUM_ITEMS]))
    inputs = Inputs(alone, ranker.vocabularies, SECTION.own_items, language)
    assert len(inputs.batch(np.arange(NUM_ITEMS)).own_items) == 1
    assert predict(ranker, alone, language).ctcvr == pytest.approx(both[:NUM_ITEMS], rel=1e-5)
