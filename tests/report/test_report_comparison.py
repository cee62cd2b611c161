import small_run

from taiji.config import Recipe
from taiji.report.comparison import render_comparison, settings_that_differ
from taiji.report.comparison_charts import front


def runs():
    changed = {"name": "fixed", "align": {"weights": {"rule": "fixed"}}, "seed": 18}
    return {
        "small": small_run.whole_run(),
        "fixed": small_run.whole_run(recipe=Recipe.model_validate(changed)),
    }


def test_only_settings_that_differ_are_listed():
    differ = settings_that_differ({name: data.recipe for name, data in runs().items()})
    assert differ == {"align.weights.rule": ["popo", "fixed"], "seed": [17, 18]}


def test_the_front_holds_what_no_other_run_dominates():
    better = small_run.rollouts()
    rows = [{**row, "semantic": row["semantic"] + 1} for row in better.to_pylist()]
    worse = [{**row, "semantic": row["semantic"] - 1} for row in better.to_pylist()]
    tables = {n: better.from_pylist(r, better.schema) for n, r in (("a", rows), ("b", worse))}
    found = front({name: small_run.whole_run(rollouts=table) for name, table in tables.items()})
    assert {point["run"]: point["front"] for point in found} == {"a": True, "b": False}


def test_runs_that_are_equal_are_both_on_the_front():
    assert all(point["front"] for point in front(runs()))


def test_the_page_pairs_answers_to_the_same_examples():
    page = render_comparison(runs(), "Two runs")
    paired = page.partition('data-testid="paired-any"')[2].partition("</section>")[0]
    assert "fixed – small" in paired
    assert "0.0 %" in paired  # the same answers differ by nothing
    assert 'data-testid="chart-front"' in page
    assert "small, fixed" in page  # dots that cover one another share a label
    assert 'data-testid="chart-outcome"' in page
    assert "align.weights.rule" in page
