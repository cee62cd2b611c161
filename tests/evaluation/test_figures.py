import numpy as np
import pytest
import small_run

from taiji.evaluation.figures import macro_statistic, paired_figures, writer_figures


def one(writer: str):
    table = small_run.judgements((writer,))
    return table.slice(0, 2)  # track "any", users u0 and u1


def test_figures_are_means_over_examples_with_intervals_around_them():
    figures = writer_figures(one("sft"), hit_rate_at=(50, 100), resamples=200, seed=1)
    assert figures["category_l2"]["value"] == 0.5  # u1 is right, u0 is not
    assert figures["title_hit_rate_at_50"]["value"] == 0.0  # the truth ranks 60th
    assert figures["title_hit_rate_at_100"]["value"] == 0.5
    assert figures["grounded"]["value"] == 0.5
    assert figures["ctcvr"]["value"] == pytest.approx(0.01)
    assert figures["category_l2"]["low"] <= 0.5 <= figures["category_l2"]["high"]


def test_a_measure_that_no_row_defines_is_left_out():
    rows = one("sft").to_pylist()
    for row in rows:
        row["think_tag_presence"] = None
    table = small_run.pa.Table.from_pylist(rows, small_run.JUDGEMENTS)
    figures = writer_figures(table, hit_rate_at=(50,), resamples=100, seed=1)
    assert "think_tag_presence" not in figures
    assert "answer_non_empty" in figures


def test_paired_figures_are_differences_on_the_same_examples():
    figures = paired_figures(one("policy"), one("sft"), hit_rate_at=(100,), resamples=200, seed=1)
    assert figures["category_l2"]["value"] == 0.5  # 1.0 - 0.5
    assert figures["category_l3"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_paired_figures_refuse_other_examples():
    with pytest.raises(ValueError, match="different examples"):
        paired_figures(one("policy"), one("sft").slice(1), hit_rate_at=(), resamples=100, seed=1)


def test_macro_accuracy_is_the_mean_over_true_classes_so_a_constant_gains_nothing():
    hits = np.array([1.0, 0.0, 1.0, np.nan, 0.0])
    classes = ["a", "a", "b", "b", "c"]
    # a: 1/2, b: 1/1 (its other row has no truth), c: 0  ->  0.5
    value = macro_statistic(hits, classes)(np.ones(5))
    assert value == pytest.approx(0.5)


def test_macro_statistic_leaves_out_classes_that_a_resample_lacks():
    statistic = macro_statistic(np.array([1.0, 0.0]), ["a", "b"])
    assert statistic(np.array([2.0, 0.0])) == 1.0
    assert np.isnan(statistic(np.zeros(2)))
