from dataclasses import replace

import numpy as np
import pytest
from ranker_parts import SECTION, split_users, users_of

from taiji.config import BoostingSection
from taiji.errors import DataError
from taiji.evaluation.metrics import auc
from taiji.ranking.categories import NOTHING, Categories
from taiji.ranking.comparison import swapped
from taiji.ranking.gradient_boosting import GradientBoosting, load_boosted
from taiji.ranking.inputs import LanguageFeatures
from taiji.ranking.match import COLUMNS, TextMatch
from taiji.ranking.train import Labels, fit_ranker, load_ranker, predict, save_ranker

BOOSTING = BoostingSection(rounds=20, leaves=7, min_leaf=10, learning_rate=0.2)


@pytest.fixture(scope="module")
def tree(world):
    return Categories.from_items(world.items)


def language(users, tree, names, texts=None, items=None):
    """Features whose only content is a match."""
    num = len(users) + 1
    padded = np.pad(names, ((0, 1), (0, 0)), constant_values=NOTHING)
    texts = np.zeros((num, 0), np.float32) if texts is None else np.pad(texts, ((0, 1), (0, 0)))
    items = np.zeros((len(tree.of_item), 0), np.float32) if items is None else items
    nothing = np.empty((num, 0), dtype=np.int32)
    match = TextMatch(tree, padded, texts, items)
    return LanguageFeatures(
        tuple(users), nothing, nothing, 0, np.empty((num, 0), np.float32), match
    )


@pytest.fixture(scope="module")
def wanted(crowd, tree):
    """Every user wants one shelf, at random, and clicks on it far more often."""
    pairs, labels = crowd
    random = np.random.default_rng(5)
    users = users_of(pairs)
    nodes = np.unique(tree.of_item)
    names = random.choice(nodes, size=(len(users), 1))
    place = {user: row for row, user in enumerate(users)}
    row = np.array([place[user] for user in pairs.user_ids])
    hit = tree.of_item[pairs.fields["item"].codes] == names[row, 0]
    click = (random.random(len(pairs)) < np.where(hit, 0.6, 0.1)).astype(np.float32)
    conversion = click * (random.random(len(pairs)) < 0.5).astype(np.float32)
    return pairs, Labels(click, conversion, labels.ts), language(users, tree, names)


def test_columns_say_what_text_and_item_share(tree):
    texts = np.array([[1.0, 0.0]], np.float32)
    items = np.zeros((len(tree.of_item), 2), np.float32)
    items[3] = [0.6, 0.8]
    found = language(["u"], tree, tree.of_item[[3]][None], texts, items).match
    assert COLUMNS == ("named_l1", "named_l2", "named_l3", "text_cosine", "has_text")
    rows = found.columns(np.array([0, 0, -1]), np.array([3, 20, 3], dtype=np.int32))
    assert rows[0] == pytest.approx([1, 1, 1, 0.6, 1])
    assert rows[1] == pytest.approx([0, 0, 0, 0, 1])
    assert rows[2] == pytest.approx([0, 0, 0, 0, 0])


def test_a_likelihood_stands_behind_the_other_columns(tree):
    found = language(["u"], tree, tree.of_item[[3]][None]).match
    scores = np.zeros((2, len(tree.paths)), np.float32)
    scores[0, tree.of_item[20]] = 1.5
    scored = replace(found, likelihoods=scores)
    assert scored.column_names == (*COLUMNS, "likelihood")
    rows = scored.columns(np.array([0, 0, -1]), np.array([3, 20, 20], dtype=np.int32))
    assert rows[:, -1].tolist() == [0, 1.5, 0]
    assert (rows[:, :-1] == found.columns(np.array([0, 0, -1]), np.array([3, 20, 20]))).all()
    assert scored.take(np.array([1, 0])).likelihoods.tolist() == scores[::-1].tolist()
    with pytest.raises(DataError, match="likelihoods of"):
        replace(found, likelihoods=scores[:, :-1])


def test_a_text_written_later_matches_nothing_before_it(tree):
    """Names, vectors and likelihoods of tomorrow's text, planted beside today's."""
    nodes = np.unique(tree.of_item)
    scores = np.ones((2, len(tree.paths)), np.float32)
    scores[0] = 0.0
    texts, items = np.eye(2, dtype=np.float32), np.ones((len(tree.of_item), 2), np.float32)
    told = language(["u", "u"], tree, nodes[[[0], [1]]], texts, items)
    padded = np.pad(scores, ((0, 1), (0, 0)))
    told = replace(told, since=np.array([0, 10]), match=replace(told.match, likelihoods=padded))
    today = replace(
        told, user_ids=("u",), since=np.array([0]), match=told.match.take(np.array([0, 2]))
    )
    item = np.flatnonzero(tree.of_item == nodes[1])[:1].repeat(3).astype(np.int32)
    users, moments = np.array(["u"] * 3, dtype=object), np.array([5, 9, 10])
    both, one = (
        features.match.columns(features.rows(users, moments), item) for features in (told, today)
    )
    assert (both[:2] == one[:2]).all()
    assert both[2].tolist() != one[2].tolist()


def gain(fit, score, wanted, spoil=lambda one: one):
    """AUC for users that training never saw, with the match and without."""
    pairs, labels, told = wanted
    train, test = split_users(pairs)
    seen = Labels(labels.click[train], labels.conversion[train], labels.ts[train])
    found = []
    for features in (spoil(told), told.for_arm("base")):
        model = fit(pairs.take(train), seen, features)
        found.append(auc(labels.click[test], score(model, pairs.take(test), features)))
    return found[0] - found[1]


def network(pairs, labels, features):
    return fit_ranker(pairs, labels, SECTION, seed=1, language=features)


def test_the_network_finds_what_was_planted_and_nothing_in_texts_of_others(wanted):
    def score(model, pairs, features):
        return predict(model, pairs, features).ctr

    assert gain(network, score, wanted) > 0.1
    assert gain(network, score, wanted, lambda one: swapped(one, "salt")) < 0.04


def test_lightgbm_finds_it_too(wanted):
    def fit(pairs, labels, features):
        return GradientBoosting(BOOSTING).fit(pairs, labels, seed=1, language=features)

    def score(model, pairs, features):
        return model.predict(pairs, features).ctr

    assert gain(fit, score, wanted) > 0.1


def test_a_saved_network_reads_the_same_match(wanted, tmp_path):
    pairs, labels, told = wanted
    ranker = network(pairs, labels, told)
    save_ranker(ranker, tmp_path)
    again = load_ranker(tmp_path)
    assert (predict(again, pairs, told).ctr == predict(ranker, pairs, told).ctr).all()
    with pytest.raises(DataError, match="trained with"):
        predict(again, pairs, told.for_arm("base"))


def test_saved_trees_read_the_same_match(wanted, tmp_path):
    pairs, labels, told = wanted
    model = GradientBoosting(BOOSTING).fit(pairs, labels, seed=1, language=told)
    model.save(tmp_path)
    again = load_boosted(tmp_path)
    assert (again.predict(pairs, told).ctr == model.predict(pairs, told).ctr).all()


def test_other_arms_see_no_match(wanted):
    _, _, told = wanted
    for arm in ("base", "intra", "cross", "both"):
        assert told.for_arm(arm).match is None
    with pytest.raises(DataError, match=r"features\.match"):
        told.for_arm("base").for_arm("match")


def test_names_of_another_catalogue_are_refused(tree):
    with pytest.raises(DataError, match="a name is outside"):
        language(["u"], tree, np.array([[10_000]]))
