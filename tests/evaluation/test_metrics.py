import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as reference_log_loss
from sklearn.metrics import roc_auc_score

from taiji.evaluation import metrics


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40))
@settings(max_examples=60, deadline=None)
def test_auc_equals_sklearn_with_ties(rows):
    labels, scores = np.array([r[0] for r in rows]), np.array([r[1] for r in rows]) / 7
    if labels.all() or not labels.any():
        assert np.isnan(metrics.auc(labels, scores))
    else:
        assert metrics.auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


def test_labels_are_0_or_1_and_of_nothing_there_is_no_error():
    for wrong in (2, -1, 0.5, np.nan):
        with pytest.raises(ValueError, match="a label is neither 0 nor 1"):
            metrics.auc([wrong, 0, 1], [0.1, 0.2, 0.3])
    assert np.isnan(metrics.ece([], []))
    assert np.isnan(metrics.auc([], []))


def test_weighted_auc_equals_auc_of_repeated_rows():
    random = np.random.default_rng(0)
    labels, scores = random.integers(2, size=60), random.integers(9, size=60) / 9
    weights = random.integers(0, 4, size=60)
    repeated = np.repeat(np.arange(60), weights)
    assert metrics.auc_statistic(labels, scores)(weights.astype(float)) == pytest.approx(
        roc_auc_score(labels[repeated], scores[repeated])
    )


def test_gauc_weighs_by_impressions_and_leaves_out_users_of_one_class():
    # a: 3 rows, AUC 1; b: 2 rows, AUC 0; c has only negatives -> (3 * 1 + 2 * 0) / 5
    labels = [1, 0, 0, 1, 0, 0, 0]
    scores = [0.9, 0.1, 0.2, 0.3, 0.8, 0.99, 0.98]
    assert metrics.gauc(labels, scores, list("aaabbcc")) == pytest.approx(0.6)


def test_gauc_equals_brute_force_when_users_are_not_sorted():
    random = np.random.default_rng(1)
    users, labels = random.integers(9, size=300), random.integers(2, size=300)
    scores = random.random(300).round(1)  # many ties
    sizes = np.bincount(users)
    by_hand = sum(
        sizes[u] * roc_auc_score(labels[users == u], scores[users == u]) for u in range(9)
    )
    assert metrics.gauc(labels, scores, users) == pytest.approx(by_hand / 300)


def test_gauc_without_a_user_of_two_classes_is_not_defined():
    assert np.isnan(metrics.gauc([1, 0], [0.2, 0.1], ["a", "b"]))


def test_log_loss_equals_sklearn_and_survives_certainty():
    random = np.random.default_rng(2)
    labels, p = random.integers(2, size=50), random.uniform(0.01, 0.99, size=50)
    assert metrics.log_loss(labels, p) == pytest.approx(reference_log_loss(labels, p))
    assert np.isfinite(metrics.log_loss([1, 0], [0.0, 1.0]))


def test_ece_by_hand():
    # two bins: predicted .1 .1 against 0 of 2, predicted .9 .9 against 1 of 2
    # |0.2 - 0| + |1.8 - 1| over 4 rows = 0.25
    assert metrics.ece([0, 0, 1, 0], [0.1, 0.1, 0.9, 0.9], bins=2) == pytest.approx(0.25)


def test_ece_of_true_probabilities_is_small_and_of_doubled_ones_is_not():
    random = np.random.default_rng(3)
    p = random.uniform(0, 0.4, size=20_000)
    labels = random.random(20_000) < p
    assert metrics.ece(labels, p) < 0.01
    assert metrics.ece(labels, 2 * p) > 0.15
    assert metrics.calibration_ratio(labels, 2 * p) == pytest.approx(2, abs=0.06)


def test_a_score_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        metrics.auc([0, 1], [0.1, float("nan")])


def test_categories_are_compared_by_path_and_the_figure_skips_levels_the_truth_lacks():
    predicted = [("food", "milk", "whole"), ("drug", "milk", "whole"), (None, None, None)]
    true = [("food", "milk", "skim"), ("food", "milk", "whole"), ("food", "tea", None)]
    hits = metrics.category_hits(predicted, true)
    np.testing.assert_array_equal(hits, [[1, 1, 0], [0, 0, 0], [0, 0, np.nan]])


def test_title_ranks_count_distinct_titles_and_put_ties_behind():
    catalogue = np.array([[1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8]], dtype=np.float32)
    titles = ["bread", "milk", "tea", "milk"]
    answers = np.array([[1, 0], [1, 0], [0, 0]], dtype=np.float32)
    ranks = metrics.title_ranks(answers, catalogue, titles, ["tea", "milk", "bread"])
    assert ranks.tolist() == [3, 2, 3]


def test_title_ranks_refuse_a_title_outside_the_catalogue():
    one = np.ones((1, 1), dtype=np.float32)
    with pytest.raises(ValueError, match="'beer'"):
        metrics.title_ranks(one, one, ["tea"], ["beer"])


def test_bootstrap_draws_users_not_rows():
    # 40 users, each with 25 equal rows: the interval must be that of 40 draws, not of 1,000
    values = np.random.default_rng(4).normal(size=40)
    users = np.repeat(np.arange(40), 25)
    interval = metrics.bootstrap_interval(
        metrics.mean_statistic(np.repeat(values, 25)), users, resamples=800, seed=0
    )
    half_width = 1.96 * values.std() / np.sqrt(40)
    assert interval.value == pytest.approx(values.mean())
    assert (interval.high - interval.low) / 2 == pytest.approx(half_width, rel=0.15)


def test_bootstrap_is_seeded():
    def run(seed):
        statistic = metrics.mean_statistic(np.arange(10.0))
        return metrics.bootstrap_interval(statistic, np.arange(10), resamples=50, seed=seed)

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_paired_difference_is_narrower_than_its_parts():
    random = np.random.default_rng(5)
    users = np.repeat(np.arange(60), 10)
    labels = random.integers(2, size=600)
    scores = labels + random.normal(size=600)
    better = scores + 0.05 * labels
    control, treatment = (metrics.auc_statistic(labels, s) for s in (scores, better))
    alone = metrics.bootstrap_interval(treatment, users, resamples=200, seed=0)
    paired = metrics.bootstrap_difference(treatment, control, users, resamples=200, seed=0)
    assert 0 < paired.low < paired.value < paired.high
    assert paired.high - paired.low < (alone.high - alone.low) / 5
