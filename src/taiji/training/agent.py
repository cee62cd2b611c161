"""torch's launcher as a process that dies with the command that started it.

    python -m taiji.training.agent PARENT FOLDER [torchrun's arguments]

It leaves `failure.json` in the folder if a process of its failed: the first one that did.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from taiji.training.processes import die_with

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

PARENT = "TAIJI_LAUNCHER"
"""The environment variable by which children know this process."""

FAILURE = "failure.json"


def main() -> None:
    """Start the processes and wait for them."""
    parent, folder, *arguments = sys.argv[1:]
    die_with(int(parent))
    os.environ[PARENT] = str(os.getpid())
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun(arguments)
    except ChildFailedError as error:
        # Whoever waits for a dead process fails within the same second: a signal comes first, but
        # for the one by which torch itself ends those that are left.
        first, failure = min(error.failures.items(), key=lambda one: _rank(*one))
        told = {"rank": first, "exit_code": failure.exitcode}
        (Path(folder) / FAILURE).write_text(json.dumps(told), encoding="utf-8")
        sys.exit(1)


def _rank(number: int, failure: "ProcessFailure") -> tuple[bool, bool, int, int]:
    code = failure.exitcode
    return code == -signal.SIGTERM, code >= 0, failure.timestamp, number


if __name__ == "__main__":
    main()
