import sys

import numpy as np
import pytest
from rule_toy import random_grams

from taiji.alignment.popo.gramian_weightings import gramian_weighting
from taiji.errors import EngineError


def simplex(num=200):
    return np.random.default_rng(3).dirichlet(np.ones(3), size=num)


def test_mgda_finds_the_shortest_combination():
    pytest.importorskip("torchjd")
    for gram_KK in random_grams(5):
        weights_K = gramian_weighting("mgda", cagrad_c=0.4)(gram_KK)
        shortest = min(w @ gram_KK @ w for w in simplex())
        assert weights_K @ gram_KK @ weights_K <= shortest * (1 + 1e-3)


def test_cagrad_helps_the_worst_off_more_than_any_other_direction_of_its_ball():
    pytest.importorskip("cvxpy")
    for gram_KK in random_grams(5):
        mean = np.full(3, 1 / 3)
        radius = 0.4 * np.sqrt(mean @ gram_KK @ mean)
        weights_K = gramian_weighting("cagrad", cagrad_c=0.4)(gram_KK)
        # Candidates: the mean gradient, plus a step of the radius towards a mix of gradients.
        directions = [mean + radius * u / np.sqrt(u @ gram_KK @ u) for u in simplex()]
        gains = [(gram_KK @ d).min() for d in directions]
        # Undo the division by the sum: the scale at which |d - mean| is the radius.
        scales = np.linspace(1, 3, 20_001)
        off = np.array([s * weights_K - mean for s in scales])
        lengths = np.sqrt(np.einsum("si,ij,sj->s", off, gram_KK, off))
        d = scales[np.abs(lengths - radius).argmin()] * weights_K
        assert (gram_KK @ d).min() >= max(gains) * (1 - 1e-3)


@pytest.mark.parametrize("kind", ["mgda", "cagrad"])
def test_nothing_is_known_where_all_gradients_vanish_or_cancel(kind):
    pytest.importorskip("cvxpy")
    weighting = gramian_weighting(kind, cagrad_c=0.4)
    assert weighting(np.zeros((2, 2))) is None
    if kind == "cagrad":  # g_1 = -g_2: no direction helps both
        assert weighting(np.array([[1.0, -1.0], [-1.0, 1.0]])) is None


def test_without_torchjd_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    with pytest.raises(EngineError, match=r"rule mgda.*taiji-rec\[torchjd\]"):
        gramian_weighting("mgda", cagrad_c=0.4)


def test_without_the_solver_of_cagrad_the_extra_is_named(monkeypatch):
    pytest.importorskip("torchjd")
    monkeypatch.setattr("torchjd._mixins.find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"rule cagrad.*taiji-rec\[torchjd\]"):
        gramian_weighting("cagrad", cagrad_c=0.4)
    assert gramian_weighting("mgda", cagrad_c=0.4)(np.eye(2)) == pytest.approx([0.5, 0.5])
