import sys

import numpy as np
import pytest

from taiji.abtest.statistics import (
    bootstrap_lift,
    bucket_lift,
    check_library,
    paired_lift,
    power,
    sample_ratio,
)
from taiji.errors import EngineError

LIFT = 0.2


def population(num=6000, seed=0):
    """Users with heavy tails: (value, before, requests) as they are, and under a true lift."""
    random = np.random.default_rng(seed)
    requests = 1 + random.poisson(3, num)
    taste = random.lognormal(0, 0.6, num)
    before = requests * taste * random.lognormal(0, 0.4, num)
    value = requests * taste * random.lognormal(0, 0.5, num)
    gains = random.lognormal(0, 0.5, num)
    treated = value * (1 + LIFT * gains / gains.mean())
    control, treatment = (np.stack([v, before, requests], axis=1) for v in (value, treated))
    return control, treatment


def splits(num_splits, size, num):
    random = np.random.default_rng(7)
    for _ in range(num_splits):
        drawn = random.permutation(num)[: 2 * size]
        yield drawn[:size], drawn[size:]


def test_cuped_follows_the_formula_by_hand():
    control, treatment = population(400)[0][:200], population(400)[1][200:]
    everyone = np.concatenate([control, treatment])
    theta = np.cov(everyone[:, 0], everyone[:, 1])[0, 1] / everyone[:, 1].var(ddof=1)
    means = []
    for sample in (control, treatment):
        drift = sample[:, 1].mean() - everyone[:, 1].mean()
        means.append(sample[:, 0].mean() - theta * drift)
    lift = bucket_lift(control, treatment, "cuped")
    # tea-tasting pools the two covariances, each around its own mean of the whole.
    assert lift.value == pytest.approx(means[1] / means[0] - 1, rel=1e-3)
    assert lift.low < lift.value < lift.high


def test_a_ratio_of_means_is_the_ratio_of_sums():
    control, treatment = population(300)
    rates = [sample[:, 0].sum() / sample[:, 2].sum() for sample in (control, treatment)]
    lift = bucket_lift(control, treatment, "per_request")
    assert lift.value == pytest.approx(rates[1] / rates[0] - 1)


def test_cuped_narrows_what_the_past_foretells():
    control, treatment = population(2000)
    plain, cuped = (bucket_lift(control, treatment, how) for how in ("mean", "cuped"))
    assert cuped.high - cuped.low < 0.85 * (plain.high - plain.low)


def test_the_bootstrap_agrees_with_the_delta_method_and_repeats():
    control, treatment = population(1000)
    plain = bucket_lift(control, treatment, "mean")
    drawn = bootstrap_lift(control, treatment, resamples=400, seed=3)
    assert drawn.value == pytest.approx(plain.value)
    assert drawn.high - drawn.low == pytest.approx(plain.high - plain.low, rel=0.2)
    again = bootstrap_lift(control, treatment, resamples=400, seed=3)
    assert (drawn.low, drawn.high) == (again.low, again.high)


# 5 % of 100 splits is 5, and more than 13 has a chance below 0.1 %. The bounds of 1,000 splits
# are those that benchmarks/abtest_coverage.py holds the whole simulation to.
FEW, MANY = (0, 13), (30, 70)


@pytest.mark.parametrize(
    ("how", "num_splits", "least", "most"),
    [
        ("cuped", 100, *FEW),
        pytest.param("cuped", 1000, *MANY, marks=pytest.mark.slow),
        pytest.param("mean", 1000, *MANY, marks=pytest.mark.slow),
        pytest.param("per_request", 1000, *MANY, marks=pytest.mark.slow),
    ],
)
def test_an_a_a_test_rejects_as_often_as_it_says(how, num_splits, least, most):
    control, _ = population()
    rejected = sum(
        not bucket_lift(control[one], control[other], how).holds(0.0)
        for one, other in splits(num_splits, 600, len(control))
    )
    assert least <= rejected <= most


@pytest.mark.parametrize(
    ("num_splits", "least", "most"),
    [(100, *FEW), pytest.param(1000, *MANY, marks=pytest.mark.slow)],
)
def test_a_planted_lift_lies_inside_as_often_as_it_says(num_splits, least, most):
    control, treatment = population()
    planted = treatment[:, 0].sum() / control[:, 0].sum() - 1
    missed = sum(
        not bucket_lift(control[one], treatment[other], "cuped").holds(planted)
        for one, other in splits(num_splits, 600, len(control))
    )
    assert least <= missed <= most


def test_the_paired_lift_covers_the_lift_of_the_population():
    control, treatment = population(8000)
    planted = treatment[:, 0].sum() / control[:, 0].sum() - 1
    missed = 0
    for one, other in splits(200, 400, len(control)):
        users = np.concatenate([one, other])
        missed += not paired_lift(control[users, 0], treatment[users, 0] - control[users, 0]).holds(
            planted
        )
    assert 1 <= missed <= 24  # 5 % of 200, a chance of 0.1 % outside


def test_paired_lift_by_hand():
    # L = 1 / 3; d = (c - L b) / 3 = (-2/9, 0, 2/9), deviation 2/9, error 2 / 9 / sqrt(3).
    lift = paired_lift(np.array([2.0, 3.0, 4.0]), np.array([0.0, 1.0, 2.0]))
    assert lift.value == pytest.approx(1 / 3)
    assert lift.high - lift.value == pytest.approx(1.959964 * 2 / 9 / 3**0.5)


def test_paired_by_user_sees_what_buckets_cannot():
    control, treatment = population(1000)
    paired = paired_lift(control[:, 0], treatment[:, 0] - control[:, 0])
    buckets = bucket_lift(control[:500], treatment[500:], "cuped")
    assert paired.high - paired.low < 0.4 * (buckets.high - buckets.low)


def test_power_follows_the_textbook():
    control, _ = population(3000)
    found = power(control, "mean", 500)
    deviation = control[:, 0].std(ddof=1) / control[:, 0].mean()
    # (z_.975 + z_.8) * sd * sqrt(2 / n), and n = 2 (z_.975 + z_.8)^2 sd^2 / 0.01^2.
    assert found.smallest_lift == pytest.approx(2.8016 * deviation * (2 / 500) ** 0.5, rel=0.01)
    assert found.users_per_arm == pytest.approx(2 * 2.8016**2 * deviation**2 / 1e-4, rel=0.01)
    assert power(control, "cuped", 500).users_per_arm < 0.7 * found.users_per_arm


def test_a_broken_split_is_seen():
    assert sample_ratio(5000, 5040) > 0.05
    assert sample_ratio(5000, 5600) < 1e-6


@pytest.mark.parametrize("num", [0, 1, 5])
def test_where_the_control_has_nothing_there_is_no_lift(num):
    nothing = np.zeros((num, 3))
    assert np.isnan(bucket_lift(nothing, nothing, "cuped").value)
    assert np.isnan(bootstrap_lift(nothing, nothing, resamples=100, seed=1).value)
    assert np.isnan(paired_lift(nothing[:, 0], nothing[:, 0]).value)
    assert np.isnan(power(nothing, "cuped", 10).smallest_lift)


@pytest.mark.parametrize("how", ["mean", "cuped", "per_request"])
def test_where_nobody_differs_the_lift_is_a_point_and_power_is_not_defined(how):
    alike, more = (np.column_stack([np.full(100, v), np.ones(100), np.ones(100)]) for v in (2, 3))
    lift = bucket_lift(alike, more, how)
    assert (lift.value, lift.low, lift.high) == (0.5, 0.5, 0.5)
    assert bucket_lift(alike, alike, how).holds(0.0)
    assert np.isnan(power(alike, how, 50).smallest_lift)
    assert np.isnan(power(alike, how, 50).users_per_arm)


def test_empty_buckets_and_a_control_that_few_pay_for_are_no_errors():
    assert np.isnan(sample_ratio(0, 0))
    rare = np.column_stack([np.r_[1.0, np.zeros(29)], np.zeros(30), np.ones(30)])
    lift = bootstrap_lift(rare, np.ones((30, 3)), resamples=200, seed=1)
    assert (lift.value, lift.high) == (pytest.approx(29), np.inf)


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tea_tasting", None)
    with pytest.raises(EngineError, match=r"taiji-rec\[abtest\]"):
        check_library()
