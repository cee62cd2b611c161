"""The plumbing of benchmarks/on_gpu.py, on a CPU and a tiny model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "on_gpu.py"


def run(*arguments):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    return done, json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_skips_with_a_word():
    done, found = run()
    assert done.returncode == 0
    assert "no GPU here" in done.stdout
    assert found == {"skipped": "no GPU"}


def test_every_check_ends_in_a_row_with_its_figures():
    done, found = run("--cpu", "--tiny")
    assert done.returncode == 0, done.stdout
    checks = found["checks"]
    for name in ("sft", "popo", "overhead"):
        assert checks[name]["result"] == "passed", checks[name]
        assert f"{name} " in done.stdout
    assert checks["compile"]["result"] in ("passed", "failed")  # needs a C++ compiler
    if not torch.cuda.is_available():
        assert checks["colocate"]["result"] == checks["vllm"]["result"] == "skipped"
    assert checks["sft"]["figures"]["last_loss"] < checks["sft"]["figures"]["first_loss"]
    assert float(checks["popo"]["figures"]["relative_difference_of_I"]) < 1e-3
