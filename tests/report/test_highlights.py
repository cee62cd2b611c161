import finished_run
import pytest
import small_run

from taiji.config import Recipe
from taiji.report.highlights import form_before_and_after, funnel, lift, reach, twins
from taiji.report.outward import sent_out

FIGURE = {"value": 0.02, "low": 0.01, "high": 0.03}


def test_the_funnel_counts_rows_of_the_tables():
    steps = {step.what: step.number for step in funnel(small_run.whole_run())}
    assert steps["interactions kept"] == 14
    assert steps["chains of thought written"] == 6
    assert steps["chains kept"] == 2
    assert steps["rollouts rewarded"] == 8
    assert steps["users and moments with features"] == 1


def test_bars_are_by_logarithm_and_the_longest_is_whole():
    steps = funnel(small_run.whole_run())
    assert max(step.share for step in steps) == 1.0
    assert all(0 < step.share <= 1 for step in steps)


def test_the_twins_share_user_and_target_and_differ_in_verdict():
    found = twins(small_run.whole_run())
    assert found is not None
    assert found.kept["example_id"] == found.rejected["example_id"]
    assert found.kept["perplexity"] == 1.23456
    assert found.rejected["perplexity"] == 9.87654
    assert found.episode.target["title"] == small_run.HOSTILE[1]


def test_no_twins_where_every_chain_was_kept():
    rows = [{**row, "kept": True, "reason": "kept"} for row in small_run.scored().to_pylist()]
    scored = small_run.scored().from_pylist(rows, small_run.scored().schema)
    assert twins(small_run.whole_run(scored=scored)) is None


def test_form_stands_model_by_model():
    metrics = small_run.metrics()
    for n, model in enumerate(("untuned", "sft", "policy")):
        metrics["writers"][model]["tracks"]["any"]["answer_non_empty"] = {"value": n / 2}
    assert form_before_and_after(metrics) == [("gives an answer", [0.0, 0.5, 1.0])]


def test_the_lift_is_that_of_both_where_there_is_one():
    metrics = finished_run.metrics()
    metrics["ranking"] = small_run.ranking(**{"intra - base": 0.02})
    assert lift(metrics) == ("+0.0200", "CTCVR AUC, intra over base [+0.0100, +0.0300]")
    assert lift(None) is None


def test_ceiling_surplus_and_lift_stand_on_one_axis():
    ceiling = {"readings": [{"best": FIGURE, "names": 5, "refresh": "visit", "among": "all"}]}
    texts = {"views": {"both": {"groups": {"all": {"click_auc": FIGURE}}}}}
    run = small_run.whole_run(ceiling=ceiling, surplus={"texts": {"policy": texts}})
    named = [row["writer"] for row in reach(run)]
    assert named[0] == "ceiling: always right, 5 names a visit"
    assert named[1] == "texts of policy"
    assert "ranked: intra over base, network" in named


@pytest.mark.parametrize(
    ("teacher", "to"),
    [
        ({"kind": "evidence"}, None),
        (
            {"kind": "openai", "base_url": "https://me:secret@api.example.com/v1", "model": "big"},
            "api.example.com, model big",
        ),
        (
            {"kind": "openai", "base_url": "http://localhost:8000/v1", "model": "big"},
            "localhost (this machine), model big",
        ),
    ],
)
def test_what_left_the_machine_is_said_without_secrets(teacher, to):
    recipe = Recipe.model_validate({"name": "r", "distill": {"teacher": teacher}})
    found = sent_out(recipe, {"big": {"replies": 3, "sent": 100, "received": 20}})
    assert [one.to for one in found] == ([] if to is None else [to])
    assert [one.tokens for one in found] == ([] if to is None else [120])
