import pyarrow as pa
import pytest
import small_run

from taiji import schema
from taiji.evaluation.upstream import align_figures, distill_figures, refine_figures


def _threshold(limit: float | None, rule: str, kind: str = "ppl") -> dict:
    return {"filter": kind, "threshold": limit, "rule": rule}


def test_refine_figures_count_and_take_medians_by_hand():
    figures = refine_figures(small_run.scored(), _threshold(4.6, "quantile 0.5"))
    assert figures["kept"] == 2  # of each user's 1.23456, 4.6, 9.87654 only the first is below 4.6
    assert figures["kept_share"] == pytest.approx(1 / 3)
    assert figures["median_perplexity"] == 4.6
    assert figures["median_perplexity_kept"] == 1.23456
    assert figures["median_perplexity_rejected"] == pytest.approx((4.6 + 9.87654) / 2)


@pytest.mark.parametrize(
    ("rule", "selects"), [("quantile 0.5", True), ("fixed", True), ("quantile 1", False)]
)
def test_the_rule_says_whether_anything_was_selected(rule, selects):
    figures = refine_figures(small_run.scored(), _threshold(4.6, rule))
    assert figures["selects"] is selects


def test_no_filter_selects_nothing_and_has_no_threshold():
    figures = refine_figures(small_run.scored(), _threshold(None, "every chain", "none"))
    assert figures["selects"] is False
    assert figures["threshold"] is None


def test_nothing_kept_has_no_median():
    scored = small_run.scored()
    none = scored.set_column(
        scored.schema.get_field_index("kept"), "kept", pa.array([False] * scored.num_rows)
    )
    figures = refine_figures(none, _threshold(1.0, "fixed"))
    assert figures["median_perplexity_kept"] is None
    assert figures["kept_share"] == 0.0


def test_distill_figures_count_leaks():
    rows = small_run.scored().select(schema.CANDIDATES.names).to_pylist()
    rows[0]["leak"] = "title"
    figures = distill_figures(pa.Table.from_pylist(rows, schema.CANDIDATES), "direct")
    assert figures["mode"] == "direct"
    assert figures["leak_share"] == pytest.approx(1 / 6)
    assert figures["teachers"] == ["evidence"]


def test_align_figures_compare_first_and_last_steps():
    figures = align_figures("popo", small_run.align_steps(), small_run.rollouts())
    assert figures["first"]["semantic"] == pytest.approx(0.1)
    assert figures["last"]["semantic"] == pytest.approx(0.4)
    assert figures["last"]["preference"] == pytest.approx((0.2 + 0.21) / 2)
    assert figures["first"]["w_semantic"] == pytest.approx(0.55)
    assert figures["last"]["w_semantic"] == pytest.approx(0.7)


def test_no_step_no_figures():
    assert align_figures("popo", [], small_run.rollouts()) is None


def test_a_last_step_that_takes_rollouts_again_leaves_the_weights_of_the_one_before():
    steps = [*small_run.align_steps(), {"step": 99, "loss": 0.1}]
    figures = align_figures("popo", steps, small_run.rollouts())
    assert figures["last"]["w_semantic"] == pytest.approx(0.7)
