"""Kills and signals: nothing is lost, nothing is published twice, the same command goes on.

    python -m pytest tests/test_kills.py -m slow -s

prints how many there were. `benchmarks/kills.py` does the same at random moments of any recipe.
"""

import itertools
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_runner import child, digests, load, recipe, run

from taiji.pipeline import upstream
from taiji.store import files
from taiji.store.run_directory import RunDirectory

pytestmark = pytest.mark.slow

SMOKE = Path(__file__).parents[1] / "recipes" / "smoke.yaml"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def mortal(directory: Path, place: int) -> None:
    """Runs two stages and dies at the n-th time that something is synced or renamed."""
    left = itertools.count(place, -1)

    def dying(function):
        def call(*args, **kwargs):
            if next(left) == 1:
                os._exit(137)
            return function(*args, **kwargs)

        return call

    files.os.fsync = dying(os.fsync)
    for name in ("replace", "rename", "unlink"):
        setattr(Path, name, dying(getattr(Path, name)))
    run(directory, recipe(), "distill", load)


def _tell(counts: str) -> None:
    sys.stderr.write(f"\n{counts}")


def test_killed_at_every_point_where_something_becomes_durable(tmp_path):
    run(tmp_path / "peace", recipe(), "distill")
    peace = RunDirectory(tmp_path / "peace")
    fork = multiprocessing.get_context("fork")
    num_kills = 0
    for place in itertools.count(1):
        killed = tmp_path / f"killed-{place}"
        process = fork.Process(target=mortal, args=(killed, place))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == 137
        num_kills += 1
        run(killed, recipe(), "distill")
        for stage in ("construct", "distill"):
            RunDirectory(killed).verify(stage)
            assert RunDirectory(killed).manifest(stage).outputs == peace.manifest(stage).outputs
        left = {path.name for path in killed.iterdir()} - {".lock", ".digests.json"}
        assert left == {"construct", "distill", "recipe.resolved.yaml"}
    assert num_kills > 20
    _tell(f"{num_kills} points, each killed once")


def test_killed_at_random_moments_of_small_stages(tmp_path):
    child(tmp_path / "peace")
    spawn, rng, num_kills = multiprocessing.get_context("spawn"), random.Random(7), 0
    for number in range(4):
        killed = tmp_path / f"killed-{number}"
        for _ in range(4):
            process = spawn.Process(target=child, args=(killed,))
            process.start()
            while not killed.exists() and process.is_alive():
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.3))
            num_kills += process.is_alive()
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        child(killed)
        assert digests(killed) == digests(tmp_path / "peace")
    _tell(f"{num_kills} kills at random moments")


def taiji(runs: Path, *, wait: bool) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "taiji.cli", "run", str(SMOKE), "--runs", str(runs)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    if wait:
        _, said = process.communicate()
        assert process.returncode == 0, said
    return process


def outputs(root: Path) -> dict[str, str]:
    directory = RunDirectory(root)
    return {
        f"{stage.name}/{name}": output.sha256
        for stage in upstream("evaluate")
        for name, output in directory.manifest(stage.name).outputs.items()
    }


def untimed(found: dict[str, str]) -> dict[str, str]:
    """Without files that hold seconds."""
    return {name: digest for name, digest in found.items() if not name.endswith("metrics.jsonl")}


def stop_in(stage: str, number: int, runs: Path, pause: float) -> bool:
    """Start the command, wait for a stage to begin, signal it; whether it was still in it."""
    process = taiji(runs, wait=False)
    work, folder = (runs / "smoke" / name for name in (f"{stage}.tmp", stage))
    while process.poll() is None and not work.exists() and not folder.exists():
        time.sleep(0.02)
    time.sleep(pause)
    if folder.exists() or process.poll() is not None:
        process.kill()
        process.communicate()
        return False
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number), said
    assert "Traceback" not in said
    assert not re.search(r"Exception ignored", said)
    return True


def test_every_real_stage_is_killed_and_signalled_and_ends_the_same(tmp_path):
    taiji(tmp_path / "peace", wait=True)
    rng, hits = random.Random(7), []
    for stage in upstream("evaluate"):
        for number in SIGNALS:
            if stop_in(stage.name, number, tmp_path / "killed", rng.uniform(0, 1)):
                hits.append((stage.name, number.name))
    taiji(tmp_path / "killed", wait=True)
    expected, found = (outputs(tmp_path / name / "smoke") for name in ("peace", "killed"))
    assert untimed(found) == untimed(expected)
    for stage in upstream("evaluate"):
        RunDirectory(tmp_path / "killed" / "smoke").verify(stage.name)
    _tell(f"{len(hits)} kills and signals in {len({stage for stage, _ in hits})} stages")
    assert {stage for stage, _ in hits} >= {"construct", "score", "sft", "align", "infer"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_query_of_the_engine_ends_in_its_exit_code(number):
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    time.sleep(1)
    process.send_signal(number)
    try:
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said


ENDLESS = """
import sys
from taiji import cli
from taiji.data.engine import open_engine
from pathlib import Path
import tempfile

@cli.app.command("endless")
def endless():
    with tempfile.TemporaryDirectory() as folder:
        with open_engine("duckdb", Path(folder) / "s", memory_gib=1) as engine:
            print("begun", flush=True)
            engine.query("SELECT count(*) AS n FROM range(1000000) a, range(1000000) b")

sys.argv = ["taiji", "endless"]
cli.main()
"""
