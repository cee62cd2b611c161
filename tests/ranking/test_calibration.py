import numpy as np
import pytest

from taiji.errors import DivergenceError
from taiji.ranking.calibration import Platt


def test_it_finds_the_scale_and_shift_that_were_applied():
    random = np.random.default_rng(0)
    logits = random.normal(-2, 1.5, size=40_000)
    labels = (random.random(40_000) < 1 / (1 + np.exp(-logits))).astype(float)
    fitted = Platt.fit(2 * logits + 1, labels)  # undone by slope 1/2 and shift -1/2
    assert np.exp(fitted.log_slope) == pytest.approx(0.5, abs=0.02)
    assert fitted.shift == pytest.approx(-0.5, abs=0.05)
    assert fitted.apply(2 * logits + 1).mean() == pytest.approx(labels.mean(), rel=1e-3)


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
