"""The command line as a person meets it: in a process of its own."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taiji.cli import app
from taiji.pipeline import STAGES, upstream
from taiji.store.run_directory import RunDirectory

ROOT = Path(__file__).parent.parent
COMMANDS = [
    "run",
    "demo",
    "status",
    "doctor",
    "join",
    "config show",
    "config reference",
    "show user",
    "show tables",
    "data day",
    "data check",
    *(s.name for s in STAGES),
]


def taiji(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "taiji.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"},
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_an_example(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "Example:" in result.stdout
    assert "taiji " + command in " ".join(result.stdout.split("Example:")[1].split())


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("cli", "{'torch', 'transformers', 'pyarrow'}"),  # for --help
        ("screen.run", "{'torch', 'transformers', 'faiss', 'trl'}"),  # for status
        ("screen.user", "{'torch', 'transformers', 'faiss', 'trl'}"),  # for a card
        ("ui.app", "{'torch', 'transformers', 'faiss', 'trl'}"),  # for pages
    ],
)
def test_what_answers_at_once_imports_no_heavy_library(module, heavy):
    code = f"import sys, taiji.{module}; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_a_broken_recipe_exits_with_2_and_no_traceback(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: x\nsft: {epoch: 1}\ntypo: 1\n")
    result = taiji("run", str(recipe))
    assert result.returncode == 2
    assert re.search(
        r"error: .*r\.yaml:2: sft\.epoch: no such setting: did you mean epochs\?", result.stderr
    )
    assert "typo: no such setting" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_stage_exits_with_2(tmp_path):
    result = taiji("run", str(ROOT / "recipes" / "smoke.yaml"), "--until", "sfft", cwd=tmp_path)
    assert result.returncode == 2
    assert "no such stage" in result.stderr


def test_dry_run_says_what_it_would_do_and_writes_nothing(tmp_path):
    result = taiji("run", str(ROOT / "recipes" / "demo.yaml"), "--dry-run", cwd=tmp_path)
    assert result.returncode == 0
    assert all(stage.name in result.stdout for stage in upstream("report"))
    assert "About" in result.stdout
    assert not list(tmp_path.iterdir())


def test_config_show_tells_where_each_value_comes_from():
    result = taiji("config", "show", "recipes/demo.yaml", "align.weights.eta=0.2", cwd=ROOT)
    assert result.returncode == 0
    assert re.search(r"align\.weights\.eta\s*│\s*0\.2\s*│\s*command line", result.stdout)
    assert re.search(r"align\.weights\.mu\s*│\s*1\.0\s*│\s*default", result.stdout)
    assert re.search(r"sft\.learning_rate\s*│\s*0\.001\s*│\s*.*demo\.yaml:\d+", result.stdout)


def test_a_locked_run_exits_with_75(tmp_path):
    directory = RunDirectory(tmp_path / "runs" / "smoke")
    with directory.locked():
        began = time.monotonic()
        result = taiji("run", str(ROOT / "recipes" / "smoke.yaml"), cwd=tmp_path)
    assert result.returncode == 75
    assert f"process {os.getpid()}" in result.stderr
    assert time.monotonic() - began < 30


def test_status_of_a_run_that_was_never_started(tmp_path):
    result = taiji("status", str(ROOT / "recipes" / "smoke.yaml"), cwd=tmp_path)
    assert result.returncode == 0
    assert result.stdout.count("not run") == len(STAGES)


def test_the_command_that_goes_on_names_the_folder_of_the_runs(monkeypatch):
    said = []
    monkeypatch.setattr("taiji.cli._run", lambda *_, again, **__: said.append(again))
    for further in ([], ["--runs", "my runs"]):
        CliRunner().invoke(app, ["run", str(ROOT / "recipes" / "smoke.yaml"), "seed=3", *further])
    plain = f"taiji run {ROOT}/recipes/smoke.yaml seed=3"
    assert said == [plain, f"{plain} --runs 'my runs'"]


def test_show_user_without_a_run_says_so(tmp_path):
    result = taiji("show", "user", "900", cwd=tmp_path)
    assert result.returncode == 2
    assert "no run here" in result.stderr


def test_doctor_finds_the_libraries():
    result = taiji("doctor", "--json")
    assert result.returncode == 0
    assert '"torch"' in result.stdout
