"""The README shows what a person sees: what is printed, commands that exist."""

import io
import re
from pathlib import Path

import finished_run
import pytest
from rich.console import Console

from taiji.config.loading import load_recipe
from taiji.pipeline import upstream
from taiji.report.stage_words import stage_words
from taiji.screen.ending import print_ending
from taiji.screen.lift import lift_panel
from taiji.screen.run import RunView, print_plan
from taiji.store.run_directory import RunDirectory

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def printed(monkeypatch) -> str:
    """What `make demo` prints into a pipe, but for progress, which depends on the machine."""
    monkeypatch.setattr("taiji.screen.estimates._matmul_speed", lambda: 1e11)
    recipe = load_recipe(ROOT / "recipes" / "demo.yaml").recipe
    stream = io.StringIO()
    console = Console(file=stream, width=120)
    print_plan(recipe, RunDirectory(Path("runs/demo")), "report", console, whole=False)
    directory = finished_run.write(Path("runs/demo"))
    view = RunView(console)
    for stage in upstream("report"):
        view.finished(stage, directory.manifest(stage.name))
    print_ending(directory, "report", "taiji demo", console)
    for stage, seconds, figures in finished_run.LIFT_STAGES:
        words = stage_words(stage, figures) or "a lift planted and looked for"
        view.did(stage, f"{seconds} s", words)
    console.print(lift_panel(*finished_run.lift()), width=80, highlight=False)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def up_to_figures(text: str) -> str:
    text = re.sub(r"[│─╭╮╰╯]", " ", text)
    return re.sub(r"\s+", " ", re.sub(r"u?\d[\d,.]*", "0", text)).strip()


def test_the_readme_shows_what_a_run_prints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = printed(monkeypatch)
    block = next(b for b in re.findall(r"```\w*\n(.*?)```", README, re.DOTALL) if "✓ align" in b)
    assert up_to_figures(block) == up_to_figures(whole), whole


def test_the_readme_begins_with_what_it_is_and_how_to_try_it():
    head = README[: README.index("## ") + 800]
    for part in ("arXiv 2606.03866", "4 online ranking"):
        assert part in head
    assert README.count("![") <= 2


@pytest.mark.parametrize("image", re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README))
def test_pictures_of_the_readme_are_there(image):
    assert (ROOT / image).is_file()
