"""Kills, signals, flipped bits and full disks: nothing is lost, nothing damaged is used.

    python -m pytest tests/test_kills.py -m slow -s

prints how many there were. Wrong uses of the command line are in `test_misuse.py`, endpoints that
misbehave in `language/misbehaviour.py`, every writer on a full disk in `store/test_exhausted.py`;
they run with the fast suite or beside it. `benchmarks/kills.py` kills at random moments of any
recipe.
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
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest
from data_shop import ORDERS, shop, write_shop
from test_runner import child, digests, load, recipe, run

from taiji.config import Recipe
from taiji.data.examples.daily import read_current, run_day
from taiji.errors import DataError, ResourceError
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
        left = {path.name for path in killed.iterdir()} - {
            ".lock",
            ".digests.json",
            "attempts.jsonl",
        }
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


def taiji(runs: Path, *, wait: bool, until: str = "report") -> subprocess.Popen[str]:
    run_it = ["-m", "taiji.cli", "run", str(SMOKE), "--runs", str(runs), "--until", until]
    process = subprocess.Popen(
        [sys.executable, *run_it],
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
    work, folder, lock = (runs / "smoke" / name for name in (f"{stage}.tmp", stage, ".lock"))

    def is_at_work() -> bool:
        """What a killed process left lies there before this one has loaded."""
        return work.exists() and lock.read_text().startswith(f"process {process.pid} ")

    while process.poll() is None and not folder.exists() and not is_at_work():
        time.sleep(0.02)
    time.sleep(pause)
    if folder.exists() or process.poll() is not None:
        process.kill()
        process.communicate()
        return False
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    expected = -9 if number == signal.SIGKILL else 128 + number
    assert process.returncode == expected, f"{process.returncode}: {said}"
    assert "Traceback" not in said
    assert not re.search(r"Exception ignored", said)
    return True


@pytest.fixture(scope="module")
def peace(tmp_path_factory) -> Path:
    """Where a run of the smallest recipe has finished."""
    runs = tmp_path_factory.mktemp("peace")
    taiji(runs, wait=True)
    return runs


def test_every_real_stage_is_killed_and_signalled_and_ends_the_same(peace, tmp_path):
    rng, hits = random.Random(7), []
    for stage in upstream("evaluate"):
        for number in SIGNALS:
            if stop_in(stage.name, number, tmp_path / "killed", rng.uniform(0, 1)):
                hits.append((stage.name, number.name))
    taiji(tmp_path / "killed", wait=True)
    expected, found = (outputs(runs / "smoke") for runs in (peace, tmp_path / "killed"))
    assert untimed(found) == untimed(expected)
    for stage in upstream("evaluate"):
        RunDirectory(tmp_path / "killed" / "smoke").verify(stage.name)
    _tell(f"{len(hits)} kills and signals in {len({stage for stage, _ in hits})} stages")
    assert {stage for stage, _ in hits} >= {"construct", "score", "sft", "align", "infer"}


NUM_FLIPS = 100


@contextmanager
def flipped(path: Path, rng: random.Random) -> Iterator[None]:
    """One bit of a file is another until it is put back."""
    with path.open("r+b") as stream:
        place = rng.randrange(path.stat().st_size)
        stream.seek(place)
        byte = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([byte ^ 1 << rng.randrange(8)]))
    try:
        yield
    finally:
        with path.open("r+b") as stream:
            stream.seek(place)
            stream.write(bytes([byte]))


def test_a_flipped_bit_in_any_format_of_any_stage_is_named_with_its_mend(peace):
    directory, rng = RunDirectory(peace / "smoke"), random.Random(7)
    formats = defaultdict(list)
    for stage in upstream("report"):
        folder = directory.folder(stage.name)
        for name in directory.manifest(stage.name).outputs:
            if (folder / name).stat().st_size:
                formats[Path(name).suffix].append((stage.name, folder / name))
    told = Counter()
    for ending, files_ in sorted(formats.items()):
        for _ in range(NUM_FLIPS):
            stage, path = rng.choice(files_)
            with flipped(path, rng):
                with pytest.raises(DataError, match=r"was written as .* run again") as caught:
                    directory.verify(stage)
                assert str(path) in str(caught.value)
            told[ending] += 1
    for stage in upstream("report"):
        directory.verify(stage.name)
    assert set(told) >= {".parquet", ".json", ".jsonl", ".safetensors", ".npy", ".faiss", ".html"}
    _tell(f"{sum(told.values())} flips in {len(told)} formats: {dict(told)}")


def test_a_flipped_bit_in_a_days_prompts_is_named_or_changes_nothing(tmp_path):
    lines = ORDERS + "".join(f"u{n},mug,2024-02-06T09:30:00Z,x{n},1,5\n" for n in range(50))
    recipe = Recipe.model_validate(
        {"name": "shop", "data": {"source": shop(write_shop(tmp_path, orders=lines))}}
    )
    first, second, out = date(2024, 2, 5), date(2024, 2, 7), tmp_path / "days"
    for day in (first, second):
        run_day(recipe, day, out)
    whole, rng, told = read_current(out, second), random.Random(7), list[str]()
    paths = sorted(out.rglob("*.parquet"))
    for number in range(150):
        with flipped(paths[number % len(paths)], rng):
            try:
                assert read_current(out, second).equals(whole)
            except DataError as error:
                told.append(str(error))
    assert all(re.search(r"prompts\.parquet: .*: write 2024-02-0. again", text) for text in told)
    _tell(f"150 flips in prompts of days: {len(told)} named, {150 - len(told)} without effect")


@pytest.mark.parametrize("size", ["1m", "4m", "8m"])
def test_a_full_disk_ends_a_real_stage_with_its_own_exit_code_and_leaves_nothing(tmp_path, size):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can make a small disk")
    try:
        process = taiji(disk, wait=False, until="construct")
        _, said = process.communicate(timeout=300)
        assert process.returncode == ResourceError.exit_code, said
        assert "no space left" in said
        assert "Traceback" not in said
        assert not (disk / "smoke" / "construct").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


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
