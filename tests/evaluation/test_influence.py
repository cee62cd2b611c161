import numpy as np
import pytest

from taiji.evaluation.influence import (
    auc_influence,
    extra_users,
    gauc_influence,
    mean_influence,
)
from taiji.evaluation.metrics import auc, auc_statistic, bootstrap_draws, gauc, gauc_statistic


def rows(num_users=60, per_user=20, seed=0):
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(num_users), per_user)
    score = random.normal(size=user.size).round(1)  # with ties
    label = (random.random(user.size) < 1 / (1 + np.exp(2 - score))).astype(float)
    return label, score, user


def test_values_are_those_of_the_plain_measures():
    label, score, user = rows()
    assert auc_influence(label, score, user, 60).value == pytest.approx(auc(label, score))
    assert gauc_influence(label, score, user, 60).value == pytest.approx(gauc(label, score, user))


def test_auc_influence_by_hand():
    # Scores 3+ 2- 1+ 0-: three of four pairs in order. The positive at 1 is above one negative of
    # two: (1/2 - 3/4) / 2 = -1/8; the one at 3 is above both: +1/8; the negatives the same.
    found = auc_influence(
        np.array([1.0, 0.0, 1.0, 0.0]), np.array([3.0, 2.0, 1.0, 0.0]), np.arange(4), 4
    )
    assert found.value == 0.75
    assert found.users_U == pytest.approx([0.125, -0.125, -0.125, 0.125])


@pytest.mark.parametrize(
    ("influence", "statistic"),
    [
        (auc_influence, lambda label, score, user: auc_statistic(label, score)),
        (gauc_influence, gauc_statistic),
    ],
)
def test_influence_is_the_slope_of_the_weighted_measure(influence, statistic):
    label, score, user = rows()
    found = influence(label, score, user, 60)
    exact = statistic(label, score, user)
    step = 1e-5
    for who in (0, 7, 31):
        weights = np.ones(user.size)
        weights[user == who] += step
        slope = (exact(weights) - exact(np.ones(user.size))) / step
        assert found.users_U[who] == pytest.approx(slope, abs=1e-5)


def test_draws_spread_as_the_exact_bootstrap_does():
    label, score, user = rows(num_users=200)
    draws = auc_influence(label, score, user, 200).draws(extra_users(200, 400, seed=1))
    exact = bootstrap_draws(auc_statistic(label, score), user, resamples=400, seed=1)
    assert draws.std() == pytest.approx(exact.std(), rel=0.1)
    assert np.corrcoef(draws, exact)[0, 1] > 0.98  # the same users are drawn


def test_one_class_has_no_auc():
    assert np.isnan(auc_influence(np.ones(3), np.arange(3.0), np.arange(3), 3).value)
    assert np.isnan(gauc_influence(np.ones(3), np.arange(3.0), np.arange(3), 3).value)


def test_mean_and_difference():
    user = np.array([0, 0, 1])
    one = mean_influence(np.array([1.0, 2.0, 6.0]), user, 2)
    assert one.value == 3.0
    # a further copy of user 1: (9 + 6) / (3 + 1) = 3.75 in full, slope (6 - 3) / 3 = 1
    assert one.users_U == pytest.approx([-1.0, 1.0])
    assert (one - one).value == 0.0
