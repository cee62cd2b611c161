"""What the processes of test_launcher.py do: `python -m launched JOB`."""

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

from taiji.store.files import append_jsonl, write_json
from taiji.training.agent import PARENT
from taiji.training.launcher import EVENTS
from taiji.training.processes import die_with, is_first, num_processes, rank


def main() -> None:
    die_with(int(os.environ[PARENT]))
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    (path.parent / f"pid-{rank()}").write_text(str(os.getpid()))
    while len(list(path.parent.glob("pid-*"))) < num_processes():
        time.sleep(
            0.02
        )  # whoever fails before the other has begun leaves nothing of it to look for
    match job["do"]:
        case "well":
            if is_first():
                row = {"logger": "taiji.x", "level": logging.WARNING, "text": "mind the gap"}
                append_jsonl(row, path.parent / EVENTS)
                append_jsonl({"progress": [1, 2, "steps"]}, path.parent / EVENTS)
            summary = {"processes": num_processes(), "threads": os.environ["OMP_NUM_THREADS"]}
            write_json({"summary": summary}, path.parent / f"outcome-{rank()}.json")
        case "refuse" if rank() == job["rank"]:
            error = {"error": "DataError", "text": "nothing to train on"}
            write_json(error, path.parent / f"outcome-{rank()}.json")
            sys.exit(4)
        case "crash" if rank() == job["rank"]:
            raise RuntimeError("the roof is \x1b[31mon fire")
        case "vanish" if rank() == job["rank"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case _:
            time.sleep(600)


main()
