import finished_run
import pytest
import small_run

from taiji.report.outcome import not_seen, seen


def rows(metrics, figures=finished_run.SUMMARIES) -> dict[str, str]:
    return dict(seen(figures, metrics))


def test_weights_that_moved_are_shown_from_start_to_end():
    metrics = finished_run.metrics()
    metrics["align"]["last"] = {"w_semantic": 0.754, "w_preference": 0.246}
    assert (
        rows(metrics)["weights"] == "popo, 2 steps: semantic 0.50 to 0.75, preference 0.50 to 0.25"
    )


def test_several_seeds_say_what_the_interval_shows():
    metrics = finished_run.metrics()
    metrics["ranking"]["seeds"] = 5
    assert rows(metrics)["ranking"].endswith("with it: lift shown")


def test_one_seed_never_shows_a_lift():
    assert "one seed cannot tell" in rows(finished_run.metrics())["ranking"]


def test_what_has_not_run_has_no_row():
    metrics = small_run.metrics() | {"align": None, "ranking": None}
    assert set(rows(metrics, {})) == {"answers"}


def test_a_large_run_of_several_seeds_leaves_out_those_limits():
    metrics = finished_run.metrics()
    metrics["catalogue"]["targets_any"], metrics["ranking"]["seeds"] = 10_000, 5
    lines = list(not_seen({"distill": {"teacher": "a-model"}}, metrics))
    assert len(lines) == 2
    assert not any("lift" in line for line in lines)


@pytest.mark.parametrize("teacher", ["evidence", "a-model"])
def test_only_a_teacher_that_is_no_model_is_named(teacher):
    lines = list(not_seen({"distill": {"teacher": teacher}}, finished_run.metrics()))
    assert any("only states facts" in line for line in lines) == (teacher == "evidence")


def test_without_categories_answers_are_told_by_their_titles():
    metrics = finished_run.metrics()
    for name, writer in metrics["writers"].items():
        share = 0.25 if name == "policy" else 0.5
        hit = {"value": share, "low": share, "high": share}
        writer["tracks"]["any"] = {"title_hit_rate_at_100": hit, "title_hit_rate_at_50": hit}
    said = dict(seen(finished_run.SUMMARIES, metrics))["answers"]
    assert said.startswith("true title among the nearest 50: policy 25 %")
