import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taiji.errors import DivergenceError
from taiji.reasoning.perplexity import perplexity


def test_perplexity_follows_eq_1_by_hand():
    # two tokens of probability 1/2 and 1/8: exp((ln 2 + ln 8) / 2) = sqrt(16) = 4
    assert perplexity(np.log([0.5, 0.125])) == pytest.approx(4.0, abs=1e-12)


def test_certainty_has_perplexity_one():
    assert perplexity(np.zeros(7)) == 1.0


@given(st.floats(0.01, 1.0), st.integers(1, 50))
def test_equal_tokens_give_the_inverse_probability_whatever_the_length(p, length):
    assert perplexity(np.full(length, np.log(p))) == pytest.approx(1 / p, rel=1e-9)


def test_an_answer_without_tokens_has_no_perplexity():
    with pytest.raises(ValueError, match="without tokens"):
        perplexity(np.array([]))


@pytest.mark.parametrize("broken", [np.nan, -np.inf, np.inf, -1e4])
def test_a_broken_scorer_is_reported(broken):
    with pytest.raises(DivergenceError, match="scorer is broken"):
        perplexity(np.array([broken]))
