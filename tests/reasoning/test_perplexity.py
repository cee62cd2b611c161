import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taiji.errors import DivergenceError
from taiji.reasoning.perplexity import clipped_perplexity, gain, perplexity


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


def test_gain_by_hand():
    # ln 8 without the chain, ln 2 with it: 2 ln 2 nats a token are saved
    assert gain(np.log([0.5]), np.log([0.125])) == pytest.approx(2 * np.log(2), abs=1e-12)
    assert gain(np.log([0.125]), np.log([0.5])) < 0


@given(st.lists(st.floats(-20, 0), min_size=1, max_size=30), st.floats(-20, 0))
def test_gain_is_the_log_of_two_perplexities(logprobs, bare):
    with_chain, without = np.array(logprobs), np.full(len(logprobs), bare)
    ratio = np.log(perplexity(without)) - np.log(perplexity(with_chain))
    assert gain(with_chain, without) == pytest.approx(ratio, abs=1e-9)


def test_gain_compares_the_same_tokens():
    with pytest.raises(ValueError, match="gain of 2 tokens over 3 others"):
        gain(np.zeros(2), np.zeros(3))


def test_clipped_perplexity_by_hand():
    # losses ln 4 and ln 1024, the second cut at ln 16: exp((ln 4 + ln 16) / 2) = 8
    logprobs = np.log([1 / 4, 1 / 1024])
    assert clipped_perplexity(logprobs, np.log(16)) == pytest.approx(8.0, abs=1e-12)
    assert clipped_perplexity(logprobs, 1e3) == perplexity(logprobs)


def test_clipping_does_not_hide_a_broken_scorer():
    with pytest.raises(DivergenceError, match="scorer is broken"):
        clipped_perplexity(np.array([-1.0, -np.inf]), 5.0)
