"""Kill a run at random moments and see that the same command ends with the same artifacts.

    python benchmarks/kills.py recipes/smoke.yaml --kills 20

One run is left in peace. Another is killed with SIGKILL, again and again, each time after a
random stretch of the time that the first one took, and started anew; then it may finish. All
outputs of all stages are compared by SHA-256; the report differs, because it shows the seconds
that stages took. `--against` names a folder with a finished run, to be used in place of the first.
The last line is JSON: kills, stages hit, artifacts that differ.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from taiji.config.loading import load_recipe
from taiji.pipeline import upstream
from taiji.store.run_directory import RunDirectory

ALWAYS = upstream("report")
KILLED = Path("runs-killed")


def command(recipe: Path, runs: Path) -> list[str]:
    return [sys.executable, "-m", "taiji.cli", "run", str(recipe), "--runs", str(runs)]


def run_in_peace(recipe: Path, runs: Path) -> None:
    subprocess.run(command(recipe, runs), check=True, stdout=subprocess.DEVNULL)


def kill_after(recipe: Path, runs: Path, seconds: float) -> bool:
    """Whether the run was still going when its time had come."""
    process = subprocess.Popen(
        command(recipe, runs), stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False


def running_stage(directory: RunDirectory) -> str:
    return next((s.name for s in ALWAYS if directory.manifest(s.name) is None), "none")


def outputs(directory: RunDirectory) -> dict[str, str]:
    found = {}
    for stage in ALWAYS:
        manifest = directory.manifest(stage.name)
        assert manifest is not None, f"{stage.name} did not finish"
        found |= {f"{stage.name}/{path}": o.sha256 for path, o in manifest.outputs.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--against", type=Path, help="a folder with a finished run")
    arguments = parser.parse_args()
    name = load_recipe(arguments.recipe).recipe.name
    in_peace = arguments.against or Path("runs-in-peace")
    run_in_peace(arguments.recipe, in_peace)
    peaceful, killed = RunDirectory(in_peace / name), RunDirectory(KILLED / name)
    seconds = sum(peaceful.manifest(stage.name).seconds for stage in ALWAYS)
    print(f"in peace: {seconds:.0f} s", flush=True)

    shutil.rmtree(killed.root, ignore_errors=True)
    rng, hit = random.Random(arguments.seed), []
    began = time.monotonic()
    # Start-up takes seconds and is killed too; the mean stretch lets a run end after all kills.
    mean_stretch = 8 + 1.2 * seconds / arguments.kills
    for number in range(1, arguments.kills + 1):
        stretch = rng.uniform(0.2, 2 * mean_stretch)
        if not kill_after(arguments.recipe, KILLED, stretch):
            print(f"finished after {number - 1} kills", flush=True)
            break
        hit.append(running_stage(killed))
        print(f"kill {number:2d} after {stretch:5.1f} s, in {hit[-1]}", flush=True)
    run_in_peace(arguments.recipe, KILLED)
    expected, found = outputs(peaceful), outputs(killed)
    differing = sorted(
        path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)
    )
    print(f"{len(hit)} kills, {time.monotonic() - began:.0f} s, {len(found)} files")
    for path in differing:
        print(f"differs: {path}")
    print(json.dumps({"kills": len(hit), "hit": sorted(set(hit)), "differing": differing}))


if __name__ == "__main__":
    main()
