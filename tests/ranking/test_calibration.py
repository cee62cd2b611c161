import numpy as np
import pytest

from taiji.errors import DivergenceError
from taiji.ranking.calibration import Calibration, Platt


def test_it_finds_the_scale_and_shift_that_were_applied():
    random = np.random.default_rng(0)
    logits = random.normal(-2, 1.5, size=40_000)
    labels = (random.random(40_000) < 1 / (1 + np.exp(-logits))).astype(float)
    fitted = Platt.fit(2 * logits + 1, labels)  # undone by slope 1/2 and shift -1/2
    assert np.exp(fitted.log_slope) == pytest.approx(0.5, abs=0.02)
    assert fitted.shift == pytest.approx(-0.5, abs=0.05)
    assert fitted.apply(2 * logits + 1).mean() == pytest.approx(labels.mean(), rel=1e-3)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_the_product_is_fitted_over_all_impressions_and_stays_a_product():
    random = np.random.default_rng(1)
    ctr, cvr = random.normal(-2, 1, size=30_000), random.normal(-1, 1.5, size=30_000)
    click = random.random(30_000) < sigmoid(ctr)
    both = click & (random.random(30_000) < sigmoid(cvr))
    fitted = Calibration.fit(ctr / 2 + 1, 2 * cvr - 1, click.astype(float), both.astype(float))
    assert np.exp([fitted.click.log_slope, fitted.conversion.log_slope]) == pytest.approx(
        [2, 0.5], rel=0.1
    )
    p_ctr, p_ctcvr = fitted.apply(ctr / 2 + 1, 2 * cvr - 1)
    assert p_ctr.mean() == pytest.approx(click.mean(), rel=1e-3)
    assert p_ctcvr.mean() == pytest.approx(both.mean(), rel=5e-3)
    assert p_ctcvr == pytest.approx(sigmoid(ctr) * sigmoid(cvr), rel=0.2, abs=1e-3)
    assert ((p_ctcvr > 0) & (p_ctcvr <= p_ctr)).all()


def test_with_a_factor_it_finds_the_optimum_of_the_likelihood():
    random = np.random.default_rng(2)
    logits, factor = random.normal(size=200), random.random(200)
    labels = (random.random(200) < factor * sigmoid(1.5 * logits - 0.5)).astype(float)
    fitted = Platt.fit(logits, labels, factor)

    def loss(log_slope, shift):
        p = factor * sigmoid(np.exp(log_slope) * logits + shift)
        likelihood = labels * np.log(p) + (1 - labels) * np.log(1 - p)
        return -likelihood.sum() + (log_slope**2 + shift**2) / 2

    best = loss(fitted.log_slope, fitted.shift)
    for move in ([1e-3, 0], [-1e-3, 0], [0, 1e-3], [0, -1e-3]):
        assert loss(fitted.log_slope + move[0], fitted.shift + move[1]) > best


def test_a_factor_of_one_is_as_no_factor_and_a_factor_of_nothing_is_survived():
    logits, labels = np.linspace(-40, 40, 30), np.tile([0.0, 1.0, 0.0], 10)
    assert Platt.fit(logits, labels, np.ones(30)) == Platt.fit(logits, labels)
    never = Platt.fit(logits, labels, np.zeros(30))
    assert np.isfinite([never.log_slope, never.shift]).all()


def test_it_never_turns_the_ranking_round():
    logits = np.linspace(-6, 2, 50)
    fitted = Platt.fit(logits, (logits < -4).astype(float))  # labels against the scores
    assert (np.diff(fitted.apply(logits)) > 0).all()


@pytest.mark.parametrize("labels", [np.zeros(30), np.ones(30)])
def test_labels_of_one_class_stay_finite(labels):
    fitted = Platt.fit(np.linspace(-5, 5, 30), labels)
    assert np.isfinite([fitted.log_slope, fitted.shift]).all()
    assert np.isfinite(fitted.apply(np.array([-1e4, 1e4]))).all()


def test_without_rows_it_is_the_identity():
    fitted = Platt.fit(np.empty(0), np.empty(0))
    assert fitted == Platt(0.0, 0.0)


def test_a_logit_that_is_not_finite_is_refused():
    with pytest.raises(DivergenceError):
        Platt.fit(np.array([np.nan]), np.array([1.0]))
