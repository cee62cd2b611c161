import io

import finished_run
import pytest
from rich.console import Console

from taiji.pipeline import upstream
from taiji.screen.ending import print_ending
from taiji.screen.run import RunView


def ending(tmp_path, width: int = 80, until: str = "report") -> str:
    stream = io.StringIO()
    directory = finished_run.write(tmp_path / "runs" / "demo")
    print_ending(directory, until, "recipes/demo.yaml", Console(file=stream, width=width))
    return stream.getvalue()


def flat(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize("width", [80, 200])
def test_a_panel_has_at_most_25_lines_of_80_columns(tmp_path, width):
    lines = ending(tmp_path, width).splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) == 80


def test_a_panel_says_what_was_seen(tmp_path):
    text = flat(ending(tmp_path))
    assert "demo: done in 12 min" in text
    assert "untuned 0 %, SFT 92 %, policy 93 %" in text
    assert "kept 81 of 168 chains under R = 29.95" in text
    assert "popo, 3 steps: semantic 0.50 to 0.75, preference 0.50" in text
    assert "policy 30.0 % [29.0, 31.0], user's last bought 58.0 % [29.0, 83.0]" in text
    assert "CTCVR AUC 0.8500 without the text, 0.8700 with it" in text
    assert "one seed cannot tell it from chance" in text


def test_a_panel_says_what_such_a_run_cannot_show(tmp_path):
    text = flat(ending(tmp_path))
    assert "12 tested answers leave wide intervals, and each ranking model was trained once" in text
    assert "`evidence` states facts of the prompt" in text


def test_a_panel_says_where_the_rest_is(tmp_path):
    text = ending(tmp_path, 200)
    root = tmp_path / "runs" / "demo"
    for command in ("taiji show tables", "taiji show user u0"):
        assert command in flat(text)
    assert str(root.name) in text


def test_the_next_stage_follows_one_that_is_not_the_last(tmp_path):
    assert ending(tmp_path, until="sft") == "Next: taiji simulate recipes/demo.yaml\n"


def test_a_whole_run_prints_at_most_80_lines_into_a_pipe(tmp_path, monkeypatch):
    """Twelve stages of five minutes each that report progress every second."""
    clock = iter(range(1_000_000))
    monkeypatch.setattr("taiji.screen.run.time.monotonic", lambda: float(next(clock)))
    directory = finished_run.write(tmp_path / "runs" / "demo")
    stream = io.StringIO()
    console = Console(file=stream, width=120)
    view = RunView(console)
    for stage in upstream("report"):
        view.started(stage, resumed=False)
        for second in range(300):
            view.progress(second, 300, "prompts")
        view.finished(stage, directory.manifest(stage.name))
    view.close()
    print_ending(directory, "report", "recipes/demo.yaml", console)
    num_plan = 6
    assert len(stream.getvalue().splitlines()) <= 80 - num_plan
