import re
import sys
from dataclasses import replace
from pathlib import Path

import market
import numpy as np
import pytest

from taiji.config import BoostingSection, RankerSection
from taiji.errors import ConfigError, DataError, DivergenceError, EngineError, MissingArtifactError
from taiji.evaluation.metrics import auc, calibration_ratio
from taiji.ranking import gradient_boosting
from taiji.ranking.backbones import build_backbones, checked
from taiji.ranking.inputs import NO_LANGUAGE, LanguageFeatures
from taiji.ranking.train import Labels, Predictions
from taiji.ranking.tree_inputs import categorical_columns

DOCS = Path(__file__).parents[2] / "docs" / "ranking.md"
NUM_ITEMS = market.NUM_SHELVES * market.NUM_PER_SHELF
SECTION = RankerSection(
    dim=8,
    hidden=(32,),
    own_items=10,
    epochs=4,
    batch_size=256,
    learning_rate=5e-3,
    boosting=BoostingSection(
        rounds=40, leaves=7, min_leaf=20, learning_rate=0.15, category_rows=10
    ),
)


@pytest.fixture(scope="session")
def example_path(tmp_path_factory):
    """The example of docs/ranking.md, as a module that a recipe can name."""
    folder = tmp_path_factory.mktemp("own")
    (code,) = re.findall(r"```python\n(.*?class RateByItem.*?)```", DOCS.read_text(), re.DOTALL)
    (folder / "my_ranking.py").write_text(code)
    sys.path.insert(0, str(folder))
    yield "my_ranking:RateByItem"
    sys.path.remove(str(folder))


@pytest.fixture(params=["network", "lightgbm", "own"])
def backbone(request, example_path):
    name = example_path if request.param == "own" else request.param
    return build_backbones([name], SECTION)[name]


def features_of(pairs, seed=0):
    """Codes, sequences and vectors that mean nothing."""
    random, users = np.random.default_rng(seed), sorted(set(pairs.user_ids))
    codes = random.integers(4, size=(len(users) + 1, 3)).astype(np.int32)
    neighbour = random.integers(NUM_ITEMS, size=(len(users) + 1, 5)).astype(np.int32)
    vectors = random.normal(size=(len(users) + 1, 2)).astype(np.float32)
    codes[-1], neighbour[-1], vectors[-1] = -1, -1, 0
    return LanguageFeatures(tuple(users), codes, neighbour, 4, vectors)


def fit(model, pairs, labels, language, seed=1):
    return model.fit(pairs, labels, seed=seed, language=language, on_step=None)


def test_every_backbone_predicts_probabilities_better_than_chance(backbone, window):
    fitted = fit(backbone, *window("reward"), NO_LANGUAGE)
    later, truth = window("rl")
    found = checked(fitted.predict(later, NO_LANGUAGE), len(later), "it")
    assert auc(truth.click, found.ctr) > 0.5
    assert calibration_ratio(truth.click, found.ctr) == pytest.approx(1, abs=0.2)


def test_every_backbone_is_the_same_after_a_restart(backbone, window, tmp_path):
    pairs, labels = window("rl")
    language = features_of(pairs).for_arm("both")
    fitted = fit(backbone, pairs, labels, language)
    expected = fitted.predict(pairs, language)
    again = fit(backbone, pairs, labels, language).predict(pairs, language)
    assert again.ctcvr.tobytes() == expected.ctcvr.tobytes(), "same seed, same bits"
    fitted.save(tmp_path / "model")
    assert not list((tmp_path / "model").glob("*.pkl"))
    restored = backbone.load(tmp_path / "model").predict(pairs, language)
    np.testing.assert_array_equal(restored.ctr, expected.ctr)
    np.testing.assert_array_equal(restored.ctcvr, expected.ctcvr)


@pytest.mark.parametrize("block", ["intra", "cross", "vectors"])
def test_gradient_boosting_gains_what_a_block_knows_and_nothing_from_noise(crowd, block):
    # the same for the network is in test_train_language.py
    pairs, labels = crowd
    language, noise = features_of(pairs), features_of(pairs, seed=9)
    user_N = language.rows(pairs.user_ids)
    borrowed = language.neighbour_items[user_N]
    l3 = pairs.item_l3[pairs.fields["item"].codes]
    knows = {
        "intra": language.codes[user_N, 1] < 2,
        "cross": (pairs.item_l3[borrowed] == l3[:, None]).any(axis=1),
        "vectors": language.vectors[user_N, 0] > 0,
    }[block]
    planted = relabel(labels, np.where(knows, 0.45, 0.1))
    model = build_backbones(["lightgbm"], SECTION)["lightgbm"]
    blind = auc_for_new_users(model, pairs, planted, NO_LANGUAGE)
    told = auc_for_new_users(model, pairs, planted, language.for_arm(block))
    misled = auc_for_new_users(model, pairs, planted, noise.for_arm(block))
    test = split_users(pairs)[1]
    assert told == pytest.approx(auc(planted.click[test], knows[test]), abs=0.03)
    assert told > blind + 0.1
    assert misled < blind + 0.03


@pytest.mark.parametrize(("least", "splits"), [(10, True), (10**6, False)])
def test_a_code_of_few_impressions_is_not_split_on(crowd, least, splits):
    # a code that few users share says who they are, and who clicked then need not click again
    pairs, labels = crowd
    blank = features_of(pairs).for_arm("base")
    codes = np.append(np.arange(len(blank.user_ids)) % 16, -1).astype(np.int32)[:, None]
    language = replace(blank, codes=codes, num_codes=16)
    planted = relabel(labels, np.where(codes[language.rows(pairs.user_ids), 0] < 8, 0.4, 0))
    section = SECTION.boosting.model_copy(update={"category_rows": least})
    fitted = fit(gradient_boosting.GradientBoosting(section), pairs, planted, language)
    column = categorical_columns(fitted.vocabularies, language)[-1]
    assert (fitted.click.booster.feature_importance()[column] > 0) == splits


def relabel(labels, chance):
    random = np.random.default_rng(0)
    click = (random.random(len(chance)) < chance).astype(np.float32)
    conversion = (random.random(len(chance)) < 0.5).astype(np.float32)
    return Labels(click, click * conversion, labels.ts)


def split_users(pairs):
    """Rows of two halves of the users, so that nobody can be recognised."""
    first = set(sorted(set(pairs.user_ids))[::2])
    known = np.array([user in first for user in pairs.user_ids])
    return np.flatnonzero(known), np.flatnonzero(~known)


def auc_for_new_users(model, pairs, labels, language):
    train, test = split_users(pairs)
    seen = Labels(labels.click[train], labels.conversion[train], labels.ts[train])
    fitted = fit(model, pairs.take(train), seen, language)
    return auc(labels.click[test], fitted.predict(pairs.take(test), language).ctr)


@pytest.mark.parametrize("damage", ["text", "missing", "description", "features"])
def test_damaged_trees_are_an_error_that_names_them(window, tmp_path, damage):
    model = build_backbones(["lightgbm"], SECTION)["lightgbm"]
    fit(model, *window("rl"), NO_LANGUAGE).save(tmp_path)
    text, description = tmp_path / "both.txt", tmp_path / "boosting.json"
    expected = MissingArtifactError if damage == "missing" else DataError
    match damage:
        case "text":
            text.write_text(text.read_text().replace("tree", "eert", 1))
        case "missing":
            text.unlink()
        case "description":
            description.write_text(description.read_text().replace("log_slope", "log_slop"))
        case "features":
            description.write_text(description.read_text().replace("item_price_known", "price"))
    with pytest.raises(expected, match="rerun the stage"):
        model.load(tmp_path)


def test_features_of_another_arm_are_refused(window):
    pairs, labels = window("rl")
    fitted = fit(build_backbones(["lightgbm"], SECTION)["lightgbm"], pairs, labels, NO_LANGUAGE)
    with pytest.raises(DataError, match="trained with"):
        fitted.predict(pairs, features_of(pairs))


def test_without_clicks_there_is_nothing_to_learn(window):
    pairs, labels = window("rl")
    none = Labels(labels.click * 0, labels.conversion * 0, labels.ts)
    with pytest.raises(DataError, match="nothing to learn"):
        fit(build_backbones(["lightgbm"], SECTION)["lightgbm"], pairs, none, NO_LANGUAGE)


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(EngineError, match=r"taiji-rec\[lightgbm\]"):
        gradient_boosting.GradientBoosting(BoostingSection())


class NotAModel:
    """Has no fit."""


class Picky:
    def __init__(self, size):
        pass


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere_at_all:Model", "cannot be imported"),
        (f"{__name__}:Missing", "has no such name"),
        (f"{__name__}:NUM_ITEMS", "holds a int: name a class"),
        (f"{__name__}:NotAModel", "has no fit and no load"),
        (f"{__name__}:Picky", "made without arguments"),
    ],
)
def test_a_class_that_is_no_ranking_model_is_refused_with_its_key(name, message):
    with pytest.raises(ConfigError, match=rf"rank\.backbones\[1\].*{message}"):
        build_backbones(["network", name], SECTION)


@pytest.mark.parametrize(
    ("ctr", "ctcvr", "message"),
    [
        ([0.5, np.nan], [0.1, 0.1], "ctr is not 2 probabilities"),
        ([0.5], [0.1], "ctr is not 2 probabilities"),
        ([0.5, 0.5], [0.1, -0.1], "ctcvr is not 2 probabilities"),
        ([0.5, 0.5], [0.1, 0.6], "ctcvr is above ctr for 1 of 2"),
    ],
)
def test_predictions_that_are_no_probabilities_are_refused(ctr, ctcvr, message):
    with pytest.raises(DivergenceError, match=message):
        checked(Predictions(np.array(ctr), np.array(ctcvr)), 2, "it")
