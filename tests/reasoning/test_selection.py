import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taiji.reasoning.selection import threshold, verdict


def test_the_default_threshold_is_the_median():
    assert threshold(np.array([9.0, 1.0, 3.0]), quantile=0.5, sample=10, seed=0) == 3.0


def test_a_sample_is_drawn_without_replacement_and_by_its_seed():
    values = np.arange(100.0)
    small = [threshold(values, quantile=0.5, sample=5, seed=seed) for seed in (1, 1, 2)]
    assert small[0] == small[1] != small[2]
    assert threshold(values, quantile=1.0, sample=100, seed=3) == 99.0


def test_no_perplexities_have_no_threshold():
    with pytest.raises(ValueError, match="no perplexities"):
        threshold(np.array([]), quantile=0.5, sample=5, seed=0)


def judge(ppl, status="ok", leak=None, drop_leaks=True):
    return verdict(ppl, status, leak, threshold=3.0, drop_leaks=drop_leaks)


def test_a_chain_is_kept_strictly_below_the_threshold():
    assert judge(2.999) == "kept"
    assert judge(3.0) == "perplexity"


def test_the_first_reason_wins():
    assert judge(None, status="truncated", leak="title") == "status: truncated"
    assert judge(1.0, leak="title") == "leak: title"
    assert judge(9.0, leak="title") == "leak: title"


def test_leaks_can_be_let_through():
    assert judge(1.0, leak="title", drop_leaks=False) == "kept"


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=60), st.floats(0, 1))
def test_at_most_the_quantile_is_kept(values, quantile):
    limit = threshold(np.array(values), quantile=quantile, sample=1000, seed=0)
    kept = sum(value < limit for value in values)
    assert kept <= np.ceil(quantile * (len(values) - 1))
