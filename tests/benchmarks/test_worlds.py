"""The worlds of benchmarks/worlds.py: what is said to be known of them is true."""

import importlib
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def worlds():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("worlds")


@pytest.fixture(scope="module")
def shoppers(worlds):
    return worlds.SwitchingShoppers.draw(0, users=4000)


@pytest.fixture(scope="module")
def tree(worlds):
    return worlds.TreeTastes.draw(0, users=3000, branching=3, depth=3)


def test_the_last_lines_show_the_late_taste_alone(shoppers):
    taste_NL = shoppers.taste_I[shoppers.history_NL]
    assert (taste_NL[:, 10:] == shoppers.late_N[:, None]).all()
    assert (taste_NL[:, :10] == shoppers.early_N[:, None]).all()
    assert (shoppers.early_N != shoppers.late_N).all()


def test_the_known_share_returns(shoppers):
    returned_N = shoppers.hidden_N == shoppers.early_N
    assert returned_N.mean() == pytest.approx(0.8, abs=0.02)
    assert (shoppers.hidden_N[~returned_N] == shoppers.late_N[~returned_N]).all()


def test_the_best_reader_by_hand(shoppers):
    # .8 ln .8 + .2 ln .2 - ln(400 / 8); who does not know the early taste has it one in seven.
    assert shoppers.best_log_likelihood(knows_early=True) == pytest.approx(-4.412425, abs=1e-6)
    assert shoppers.best_log_likelihood(knows_early=False) == pytest.approx(-5.969153, abs=1e-6)


def test_a_text_is_nearest_to_the_taste_that_it_names(shoppers):
    said_ND = shoppers.texts(shoppers.hidden_N, np.random.default_rng(1))
    assert np.linalg.norm(said_ND, axis=1) == pytest.approx(1)
    named_N = (said_ND @ shoppers.taste_TD.T).argmax(axis=1)
    assert (named_N == shoppers.hidden_N).mean() > 0.95


def test_worlds_of_one_seed_are_one(worlds, shoppers):
    again = worlds.SwitchingShoppers.draw(0, users=4000)
    other = worlds.SwitchingShoppers.draw(1, users=4000)
    assert (again.next_N == shoppers.next_N).all()
    assert (other.next_N != shoppers.next_N).any()


def test_paths_have_probabilities_that_sum_to_one(tree):
    for likelihoods in (tree.log_truth(), tree.log_proposed()):
        for level_NV in likelihoods:
            assert np.exp(level_NV).sum(axis=1) == pytest.approx(1)


def test_a_prefix_is_as_likely_as_its_children(tree):
    upper_NV, lower_NV = tree.log_truth()[:2]
    children_NV = np.exp(lower_NV).reshape(3000, 3, 3).sum(axis=2)
    assert children_NV == pytest.approx(np.exp(upper_NV))
    assert tree.prefix(np.array([0, 8, 9, 26]), 1).tolist() == [0, 0, 1, 2]
    assert tree.prefix(np.array([0, 8, 9, 26]), 2).tolist() == [0, 2, 3, 8]


def test_users_take_items_as_often_as_the_truth_says(tree):
    taken_V = np.bincount(tree.history_NL.ravel(), minlength=27) / tree.history_NL.size
    assert taken_V == pytest.approx(np.exp(tree.log_truth()[2]).mean(axis=0), abs=0.005)


def test_the_best_recall_is_reached_by_whoever_knows_the_truth(tree):
    likely_NV = tree.log_truth()[2]
    best_NK = np.argsort(-likely_NV, axis=1)[:, :4]
    hits_N = (best_NK == tree.next_N[:, None]).any(axis=1)
    assert hits_N.mean() == pytest.approx(tree.best_recall(3, 4), abs=0.03)
    assert tree.best_recall(3, 27) == pytest.approx(1)


def test_the_proposer_is_biased(tree):
    truth, proposed = (
        np.exp(paths[0]).mean(axis=0) for paths in (tree.log_truth(), tree.log_proposed())
    )
    assert abs(truth - proposed).max() > 0.1


def test_the_mean_of_heavy_tails_is_the_mean_of_their_values(worlds):
    drawn = worlds.HeavyTails.draw(0, rows=200_000)
    assert 0.25 < (drawn.value_N == 0).mean() < 0.55
    order = np.argsort(drawn.mean_N)
    for part in np.array_split(order, 5):
        assert drawn.value_N[part].mean() == pytest.approx(drawn.mean_N[part].mean(), rel=0.06)


def test_silent_advertisers_report_their_goal_and_little_that_they_do_not_report(worlds):
    drawn = worlds.SilentAdvertisers.draw(0, rows=60_000)
    rows = np.arange(len(drawn.goal_N))
    own = drawn.converted_NJ[rows, drawn.goal_N]
    assert np.array_equal(own, drawn.reported_NJ[rows, drawn.goal_N])
    silent = ~drawn.reports_AJ[drawn.advertiser_N]
    told = drawn.reported_NJ[silent].sum() / drawn.converted_NJ[silent].sum()
    assert 0.01 < told < 0.03
    clicked = drawn.click_N
    assert not drawn.converted_NJ[~clicked].any()
    rates = drawn.rate_NJ[clicked].mean(axis=0)
    assert drawn.converted_NJ[clicked].mean(axis=0) == pytest.approx(rates, rel=0.05)
