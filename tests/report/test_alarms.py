"""What went wrong as a whole is told at the stage's end, at the run's end and first on the page."""

import finished_run
import pytest
import small_run
from rich.console import Console

from taiji.pipeline import find_stage
from taiji.report.alarms import alarms
from taiji.report.page import render_report
from taiji.screen.ending import ending_panel, read_finished
from taiji.screen.run import RunView
from taiji.store.run_directory import Manifest

BAD = {
    "score": {"scored": 8, "median_gain": -0.31},
    "infer": {"texts": 8, "untuned_ok": 0.0, "sft_ok": 0.5, "policy_ok": 0.0},
    "features": {"users_with_features": 8, "entropy_bits": 0.0, "mean_similarity": 0.99951},
}
SAID = (
    "score: under most chains the true answer is less likely than without any",
    "infer: no text of policy is in the form asked for",
    "features: all users have the same codes",
    "features: neighbours are at cosine 1.000",
)


def test_each_is_told_and_nothing_else():
    found = alarms(BAD)
    assert [text[: len(said)] for text, said in zip(found, SAID, strict=True)] == list(SAID)
    good = {
        "score": {"median_gain": 0.0},
        "infer": {"untuned_ok": 0.0, "policy_ok": 0.01},
        "features": {"entropy_bits": 0.1, "mean_similarity": 0.999},
        "rank": {"base_click_auc": 0.5},
    }
    assert alarms(good) == []
    assert alarms({"features": {}, "infer": {}, "score": {}}) == []  # of another version


@pytest.mark.parametrize(
    ("users", "said"), [(4, "4 users stand"), (1, "1 user stands"), (30, None)]
)
def test_a_few_users_behind_a_difference_are_told(users, said):
    ranking = small_run.ranking()
    ranking["backbones"]["network"]["all"]["users"] = users
    found = alarms({}, {"ranking": ranking})
    if said is None:
        assert found == []
    else:
        assert found == [f"rank: {said} behind the differences of the group all"]


def test_a_stage_says_so_when_it_ends():
    console = Console(width=120, record=True, force_terminal=False)
    manifest = Manifest(
        "infer", finished_run.KEY, finished_run.KEY, {}, {}, 17, seconds=1.0, summary=BAD["infer"]
    )
    RunView(console).finished(find_stage("infer"), manifest)
    assert "beware infer: no text of policy" in " ".join(console.export_text().split())


def test_so_do_the_last_lines_and_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(finished_run, "SUMMARIES", finished_run.SUMMARIES | BAD)
    console = Console(width=80, record=True)
    console.print(ending_panel(read_finished(finished_run.write(tmp_path), "taiji run x")))
    text = console.export_text()
    assert text.count("beware") == len(SAID) + 1  # and few users, as in the run as it is
    manifests = [small_run.manifest(stage) | {"summary": summary} for stage, summary in BAD.items()]
    page = render_report(small_run.whole_run(manifests=manifests))
    for said in SAID:
        assert said in page
    assert 'data-testid="alarms"' not in render_report(small_run.whole_run())
