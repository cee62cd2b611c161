import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taiji.reasoning.selection import Rule, select, threshold


def row(perplexity, prompt="a", *, gain=0.0, clipped=1.0, status="ok", leak=None):
    scores = {"perplexity": perplexity, "gain": gain, "clipped": clipped}
    return {"example_id": prompt, "status": status, "leak": leak, **scores}


def test_the_default_threshold_is_the_median():
    assert threshold(np.array([9.0, 1.0, 3.0]), quantile=0.5, sample=10, seed=0) == 3.0


def test_a_sample_is_drawn_without_replacement_and_by_its_seed():
    values = np.arange(100.0)
    small = [threshold(values, quantile=0.5, sample=5, seed=seed) for seed in (1, 1, 2)]
    assert small[0] == small[1] != small[2]
    assert threshold(values, quantile=1.0, sample=100, seed=3) == 99.0


def test_no_scores_have_no_threshold():
    with pytest.raises(ValueError, match="no scores"):
        threshold(np.array([]), quantile=0.5, sample=5, seed=0)


def test_the_papers_rule_keeps_strictly_below_the_median():
    chosen = select([row(9.0), row(1.0), row(3.0)], Rule())
    assert chosen.reasons == ["perplexity", "kept", "perplexity"]
    assert (chosen.threshold, chosen.rule, chosen.sampled) == (3.0, "quantile 0.5", 3)


def test_a_fixed_threshold_replaces_the_quantile():
    chosen = select([row(2.0), row(4.5), row(4.6)], Rule(threshold=4.6))
    assert chosen.reasons == ["kept", "kept", "perplexity"]
    assert (chosen.threshold, chosen.rule, chosen.sampled) == (4.6, "fixed", 0)


def test_a_gain_is_good_when_it_is_high():
    rows = [row(9.0, gain=0.5), row(2.0, gain=-0.1), row(3.0, gain=0.2)]
    chosen = select(rows, Rule(filter="gain"))
    assert chosen.reasons == ["kept", "gain", "gain"]
    assert chosen.threshold == pytest.approx(0.2)
    fixed = select(rows, Rule(filter="gain", threshold=0.0))
    assert fixed.reasons == ["kept", "gain", "kept"]
    assert fixed.threshold == 0.0
    most = select(rows, Rule(filter="gain", quantile=0.9))
    assert most.reasons == ["kept", "gain", "kept"]


def test_clipped_perplexity_decides_where_it_is_asked_for():
    rows = [row(1.0, clipped=5.0), row(9.0, clipped=2.0)]
    assert select(rows, Rule(filter="clipped")).reasons == ["clipped", "kept"]


def test_no_filter_keeps_all_that_may_be_kept():
    rows = [row(9.0), row(1.0, leak="title"), row(None, status="empty")]
    chosen = select(rows, Rule(filter="none"))
    assert chosen.reasons == ["kept", "leak: title", "status: empty"]
    assert (chosen.threshold, chosen.rule) == (None, "none")


def test_the_best_of_each_prompt_whatever_the_others_are():
    rows = [row(9.0), row(7.0), row(8.0), row(2.0, "b"), row(1.0, "b", leak="phrase")]
    chosen = select(rows, Rule(top_m=1))
    assert chosen.reasons == ["rank", "kept", "rank", "kept", "leak: phrase"]
    assert chosen.rule == "best 1 of each prompt"
    assert select(rows, Rule(top_m=2)).reasons.count("kept") == 3


def test_of_equal_chains_the_first_is_the_best():
    assert select([row(2.0), row(2.0)], Rule(top_m=1)).reasons == ["kept", "rank"]


def test_the_first_reason_wins():
    rows = [row(None, status="truncated", leak="title"), row(9.0, leak="title"), row(1.0)]
    assert select(rows, Rule(threshold=3.0)).reasons == ["status: truncated", "leak: title", "kept"]


def test_leaks_can_be_let_through_and_count_for_the_threshold_then():
    rows = [row(1.0, leak="title"), row(3.0), row(5.0)]
    assert select(rows, Rule()).threshold == 4.0
    let = select(rows, Rule(drop_leaks=False))
    assert (let.threshold, let.reasons[0]) == (3.0, "kept")


def test_nothing_to_choose_from_is_an_error():
    with pytest.raises(ValueError, match="no chain"):
        select([row(1.0, leak="title"), row(None, status="empty")], Rule())


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=60), st.floats(0, 1))
def test_at_most_the_quantile_is_kept(values, quantile):
    chosen = select([row(value) for value in values], Rule(quantile=quantile))
    assert chosen.reasons.count("kept") <= np.ceil(quantile * (len(values) - 1))
