import io
from pathlib import Path

import finished_run
import pytest
from rich.console import Console

from taiji.pipeline import upstream
from taiji.screen.ending import print_ending
from taiji.screen.run import RunView


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def ending(width: int = 80, until: str = "report") -> str:
    stream = io.StringIO()
    directory = finished_run.write(Path("runs/demo"))
    print_ending(directory, until, "taiji run recipes/demo.yaml", Console(file=stream, width=width))
    return stream.getvalue()


def flat(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize("width", [80, 200])
def test_a_panel_has_at_most_25_lines_of_80_columns(width):
    lines = ending(width).splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) == 80


def test_a_panel_says_what_was_seen():
    text = flat(ending())
    assert "demo: done in 8 min" in text
    assert "untuned 0 %, SFT 67 %, policy 78 %" in text
    assert "kept 54 of 108 chains under R = 28.87" in text
    assert "popo, 2 steps: preference 0.50, semantic 0.50 (hardly moved)" in text
    assert "policy 10 % [0, 30], most popular, new to user 70 % [40, 100]" in text
    assert "CTCVR AUC 0.9165 without the text, 0.9146 with it" in text
    assert "one seed cannot tell it from chance" in text


def test_a_panel_says_what_such_a_run_cannot_show():
    text = flat(ending())
    assert "12 answers were tested, each ranking model trained once" in text
    assert "the teacher only states facts" in text


def test_a_panel_says_where_the_rest_is():
    lines = [line.strip("│ ") for line in ending().splitlines()]
    assert "report   runs/demo/report/report.html" in lines
    assert "tables   taiji show tables --run runs/demo" in lines
    assert "one user taiji show user u0 --run runs/demo" in lines


def test_the_next_stage_follows_one_that_is_not_the_last():
    assert ending(until="sft") == "Next: taiji run recipes/demo.yaml --until simulate\n"


def test_a_whole_run_prints_at_most_80_lines_into_a_pipe(monkeypatch):
    """Twelve stages of five minutes each that report progress every second."""
    clock = iter(range(1_000_000))
    monkeypatch.setattr("taiji.screen.run.time.monotonic", lambda: float(next(clock)))
    directory = finished_run.write(Path("runs/demo"))
    stream = io.StringIO()
    console = Console(file=stream, width=120)
    view = RunView(console)
    for stage in upstream("report"):
        view.started(stage, resumed=False)
        for second in range(300):
            view.progress(second, 300, "prompts")
        view.finished(stage, directory.manifest(stage.name))
    view.close()
    print_ending(directory, "report", "taiji run recipes/demo.yaml", console)
    num_plan = 6
    assert len(stream.getvalue().splitlines()) <= 80 - num_plan
