"""CPU and memory of every stage over the number of users, without language models.

    python benchmarks/scale.py --sizes 20000 100000 300000
    python benchmarks/scale.py --sizes 500 2000 --until features      minutes, to see that it works

The log is that of `scale_log.py`, what stands in for models is in `scale_stages.py`. Stages run in
the order of the pipeline, each in a process of its own, on what the stages before it have left.
What is finished stays in `--folder` and is not run again: stop it and start it as you like, and
delete the folder at the end. `--also` measures the stages that read a prompt for each example as
they would around a model; they take most of the hours.

Prints a table; the last line is JSON. An exponent is of growth between the smallest and the largest
size: `worst_memory_exponent` of what a stage holds beyond a constant, which is its peak on a log of
500 users; growth under 0.1 GiB is none. Beyond the largest size memory grows as between the two
largest, on a straight line, and CPU with its own exponent; users have as many lines as here.
"""

import argparse
import json
import math
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scale_log import write_log
from scale_stages import import_all, run_stage, stand_in

STAGES = (
    *("construct", "distill", "simulate", "refine", "infer", "features", "rank", "evaluate"),
    "report",
)
ALSO = ("score", "sft", "infer-asked")
LEFT_BY_OTHERS = {"distill": "tokenizer", "refine": "score", "evaluate": "align"}
"""Before one of these stages runs, what another would have left is put there."""

CONSTANT_USERS, PAPER_USERS = 500, 1_100_000
NOISE_GIB = 0.1

Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 100_000, 300_000])
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], help="the last stage")
    parser.add_argument("--only", choices=STAGES, nargs="+", help="these stages alone")
    parser.add_argument("--also", choices=ALSO, nargs="+", default=[], help="stages around a model")
    parser.add_argument("--again", nargs="+", default=[], help="stages to run although finished")
    parser.add_argument("--most-gib", type=float, default=8, help="a larger process is ended")
    default = Path(tempfile.gettempdir()) / "scale_bench"
    parser.add_argument("--folder", type=Path, default=default)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--users", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(run_here(arguments.run, arguments.folder, arguments.users)))
        return
    until = STAGES[: STAGES.index(arguments.until) + 1]
    stages = [s for s in until if s in (arguments.only or STAGES)] + arguments.also
    sizes = sorted({CONSTANT_USERS, *arguments.sizes})
    found = {users: measure(arguments, users, stages) for users in sizes}
    print(json.dumps(summary(found)))


def measure(arguments: argparse.Namespace, users: int, stages: list[str]) -> dict[str, Figures]:
    """Figures of every stage at one size; those of finished stages are read again."""
    size = arguments.folder / f"{users}"
    (size / "figures").mkdir(parents=True, exist_ok=True)
    if not (size / "log").is_dir():
        write_log(size / "log.tmp", users)
        (size / "log.tmp").rename(size / "log")
        (size / "run").mkdir()
    found = {}
    for stage in stages:
        path = size / "figures" / f"{stage}.json"
        if not path.is_file() or stage in arguments.again:
            if stage in LEFT_BY_OTHERS:
                stand_in_process(LEFT_BY_OTHERS[stage], size, users)
            row = watched([*command(stage, size, users)], arguments.most_gib)
            path.write_text(json.dumps(row), encoding="utf-8")
        found[stage] = json.loads(path.read_text(encoding="utf-8"))
        print_row(stage, users, found[stage])
        if "ended_at_gib" in found[stage]:
            print(f"{users:,} users: nothing after {stage}", flush=True)
            break
    return found


def command(stage: str, size: Path, users: int) -> list[str]:
    return [sys.executable, __file__, "--run", stage, "--folder", str(size), "--users", str(users)]


def stand_in_process(stage: str, size: Path, users: int) -> None:
    subprocess.run(command(f"left:{stage}", size, users), check=True, stdout=subprocess.DEVNULL)


def watched(line: list[str], most_gib: float) -> Figures:
    """Run one stage; end it where it takes more memory than there is."""
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as child:
        while child.poll() is None:
            if (held := peak_gib(child.pid)) > most_gib:
                child.kill()
                return {"ended_at_gib": held}
            time.sleep(0.2)
        said = child.stdout.read() if child.stdout else ""
    if child.returncode:
        raise SystemExit(f"{line[3]} ended with {child.returncode}")
    row: Figures = json.loads(said.splitlines()[-1])
    return row


def run_here(stage: str, size: Path, users: int) -> Figures:
    """One stage in this process; the CPU of its imports is not counted."""
    if stage.startswith("left:"):
        stand_in(stage.removeprefix("left:"), size / "run")
        return {}
    import_all()
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    imported = peak_gib()
    run_stage(stage, size, users)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cpu_seconds": used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime,
        "seconds": time.perf_counter() - began,
        "imported_gib": imported,
        "peak_gib": peak_gib(),
    }


def peak_gib(process: int | str = "self") -> float:
    """Peak resident memory of a program; `ru_maxrss` would count that of its parent too."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 2**20 if found else 0.0


def print_row(stage: str, users: int, row: Figures) -> None:
    if "ended_at_gib" in row:
        print(f"{stage:<12}{users:>10,} users   ended at {row['ended_at_gib']:.1f} GiB", flush=True)
        return
    print(
        f"{stage:<12}{users:>10,} users{row['cpu_seconds']:>10.1f} CPU s"
        f"{row['seconds']:>10.1f} s{row['peak_gib']:>8.2f} GiB",
        flush=True,
    )


def summary(found: dict[int, dict[str, Figures]]) -> dict[str, Any]:
    """Exponents of the stages that were measured at all sizes, and what 1.1 million users take."""
    sizes = [users for users in found if users != CONSTANT_USERS] or [CONSTANT_USERS]
    whole = [s for s in found[sizes[-1]] if all("peak_gib" in found[n].get(s, {}) for n in found)]
    memory = {stage: memory_exponent(stage, found, sizes) for stage in whole}
    cpu = {stage: exponent(found, sizes, stage, "cpu_seconds", 0.0) for stage in whole}
    peaks = {stage: found[sizes[-1]][stage]["peak_gib"] for stage in whole}
    return {
        "sizes": sizes,
        "memory_exponents": memory,
        "cpu_exponents": cpu,
        "peak_gib": peaks,
        "at_1_1_million": {stage: beyond(stage, found, sizes) for stage in whole},
        "worst_memory_exponent": max(memory.values(), default=None),
        "worst_memory_exponent_of_whole_peaks": max(
            (exponent(found, sizes, stage, "peak_gib", 0.0) for stage in whole), default=None
        ),
        "worst_cpu_exponent": max(cpu.values(), default=None),
        "peak_gib_300k": max(peaks.values()) if sizes[-1] == 300_000 else None,
    }


def memory_exponent(stage: str, found: dict[int, dict[str, Figures]], sizes: list[int]) -> float:
    constant = found[CONSTANT_USERS][stage]["peak_gib"]
    if found[sizes[-1]][stage]["peak_gib"] - constant < NOISE_GIB:
        return 0.0
    return exponent(found, sizes, stage, "peak_gib", constant)


def exponent(
    found: dict[int, dict[str, Figures]], sizes: list[int], stage: str, key: str, constant: float
) -> float:
    first, last = (found[users][stage][key] - constant for users in (sizes[0], sizes[-1]))
    if len(sizes) < 2:
        return math.nan
    return round(math.log(last / max(first, 1e-3)) / math.log(sizes[-1] / sizes[0]), 3)


def beyond(stage: str, found: dict[int, dict[str, Figures]], sizes: list[int]) -> Figures:
    """What 1.1 million users would take, from the two largest sizes."""
    before, last = sizes[-2:] if len(sizes) > 1 else (CONSTANT_USERS, sizes[-1])
    low, high = found[before][stage], found[last][stage]
    slope = (high["peak_gib"] - low["peak_gib"]) / (last - before)
    power = math.log(high["cpu_seconds"] / low["cpu_seconds"]) / math.log(last / before)
    return {
        "peak_gib": round(high["peak_gib"] + max(slope, 0) * (PAPER_USERS - last), 2),
        "cpu_hours": round(high["cpu_seconds"] * (PAPER_USERS / last) ** power / 3600, 2),
    }


if __name__ == "__main__":
    main()
