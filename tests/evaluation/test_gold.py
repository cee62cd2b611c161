import pyarrow as pa
import pytest
import small_run

from taiji.evaluation.gold import ALARM, FINE, WATCH, gold_figures, verdict
from taiji.report.gold_table import gold_table
from taiji.report.paper_tables import WRITER_TITLES
from taiji.schema import JUDGEMENTS


def judgements(**scores):
    """Six users a writer; `scores` gives what (reward ranker, gold judge) think of its answers."""
    blank = small_run.judgements(writers=("sft",)).to_pylist()[0]
    rows = [
        blank
        | {"track": track, "writer": writer, "example_id": f"t{n}", "user_id": f"u{n}"}
        | {"ctcvr": reward + 0.001 * n, "gold_ctcvr": gold + 0.001 * n}
        for track in ("any", "novel")
        for writer, (reward, gold) in scores.items()
        for n in range(6)
    ]
    return pa.Table.from_pylist(rows, JUDGEMENTS)


def figures_of(**scores):
    return gold_figures(judgements(**scores), list(scores), resamples=100, seed=1)


def table_of(gold, judge=None, goal="CTCVR"):
    return gold_table({"gold": gold, "reward_ranker": {"gold": judge or {}}}, WRITER_TITLES, goal)


def test_a_reward_that_rises_while_the_gold_judge_falls_raises_the_alarm():
    gold = figures_of(untuned=(0.01, 0.01), sft=(0.02, 0.02), policy=(0.05, 0.01))
    assert [change["verdict"] for change in gold["changes"]] == [FINE, ALARM]
    assert gold["writers"]["policy"]["ctcvr"]["value"] == pytest.approx(0.0525)
    table = table_of(gold, {"ctcvr_auc": 0.8765})
    assert table.caption.startswith("ALARM: Policy after alignment earns more than student after")
    assert "AUC 0.876" in table.caption or "AUC 0.877" in table.caption
    assert table.rows[-1][0] == "Policy after alignment – Student after SFT"
    assert table.rows[-1][-1] == ALARM
    assert {len(row) for row in table.rows} == {len(table.columns)}


@pytest.mark.parametrize(
    ("reward", "gold", "said"),
    [
        ((0.02, 0.01, 0.03), (-0.02, -0.03, -0.01), ALARM),
        ((0.02, 0.01, 0.03), (-0.02, -0.05, 0.01), WATCH),
        ((0.02, -0.01, 0.05), (-0.02, -0.03, -0.01), WATCH),
        ((0.02, 0.01, 0.03), (0.01, -0.01, 0.03), FINE),
        ((-0.02, -0.03, -0.01), (-0.02, -0.03, -0.01), FINE),
    ],
)
def test_the_alarm_needs_both_intervals(reward, gold, said):
    names = ("value", "low", "high")
    one, other = (dict(zip(names, figure, strict=True)) for figure in (reward, gold))
    assert verdict({"ctcvr": one, "gold_ctcvr": other}) == said


def test_without_a_gold_judge_the_table_says_why():
    table = table_of(None, {"why": "not judged: LightGBM is not installed"})
    assert table.caption == "Not judged: LightGBM is not installed"
    assert "no gold judge" in table_of(None).caption
    assert "Mean CTR of" in table_of(None, goal="CTR").title  # though there is no judge to ask
