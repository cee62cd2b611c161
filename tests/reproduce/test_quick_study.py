"""`taiji reproduce --quick` to its end, and what its folder holds; a quarter of an hour and more.

    TAIJI_STUDY=FOLDER python -m pytest tests/reproduce/test_quick_study.py -m slow

With TAIJI_STUDY the study lies in that folder, goes on there if it was killed, and is up to date in
seconds if it had finished; without, it lies in a folder that goes.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from taiji.config import POLICY
from taiji.report.cells import NOT_RUN
from taiji.reproduce.arms import ARMS, WORLDS, run_name
from taiji.store.files import read_json

TABLES = {"table1": 8, "table3": 2, "table4": 5, "paired-any": 4, "paired-novel": 4}
"""Rows of each table of a world; the teacher's row of Table 1 is not run."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    known = os.environ.get("TAIJI_STUDY")
    found = Path(known) if known else tmp_path_factory.mktemp("study")
    command = ["-m", "taiji.cli", "reproduce", "--quick", "--out", str(found)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return found


@pytest.mark.slow
def test_every_arm_ran_to_its_end(folder):
    for world in WORLDS:
        for arm in ARMS:
            manifest = folder / run_name(world, arm) / arm.until / "manifest.json"
            assert read_json(manifest)["stage"] == arm.until


@pytest.mark.slow
def test_every_table_of_both_worlds_is_filled(folder):
    results = read_json(folder / "results.json")
    assert results["size"] == "quick"
    assert set(results["seeds"]) == {run_name(world, arm) for world in WORLDS for arm in ARMS}
    assert len(set(results["seeds"].values())) == 1
    for world in WORLDS:
        for name, rows in TABLES.items():
            table = results["tables"][f"{world}-{name}"]
            assert len(table) == rows, f"{world}-{name}"
            assert not any(cell == NOT_RUN for row in table for cell in row.values())


@pytest.mark.slow
def test_table_4_has_the_figures_of_the_runs(folder):
    tables = read_json(folder / "results.json")["tables"]
    for world in WORLDS:
        rows = {row["Answer by"]: row for row in tables[f"{world}-table4"]}
        for arm in ARMS:
            if "table4" not in arm.rows:
                continue
            metrics = read_json(folder / run_name(world, arm) / "evaluate" / "metrics.json")
            figures = metrics["writers"][POLICY]["tracks"]["any"]
            cells = rows[arm.rows["table4"]]
            for column, name in (("L1", "category_l1"), ("Semantic", "semantic")):
                shown = {key: cells[column][key] for key in ("value", "low", "high")}
                assert shown == {key: figures[name][key] for key in shown}


@pytest.mark.slow
def test_the_page_and_the_document_hold_the_tables_and_the_papers(folder):
    page = (folder / "report.html").read_text(encoding="utf-8")
    text = (folder / "results.md").read_text(encoding="utf-8")
    for key in (*(f"{world}-{name}" for world in WORLDS for name in TABLES), "paper1", "paper4"):
        assert page.count(f'data-testid="{key}"') == 1
    for world in WORLDS:
        assert f'data-testid="chart-{world}outcome"' in page
    assert "### Table 4 on Complete Journey" in text
    assert "### Table 4 on the planted world" in text
    assert "| + POPO | .2433 | .0888 | .0347 | .0567 | .0720 | .003816 |" in text
