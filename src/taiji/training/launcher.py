"""Starts the processes of a training stage by torch's own launcher and waits for them.

Of the first process progress, log lines and errors are shown as if it were this one; of the others
only what the first to fail said last. Whatever ends this process, a signal or a kill, ends all of
them: the launcher dies with us, and they with the launcher.
"""

import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from taiji import errors
from taiji.config import TrainingCompute
from taiji.errors import ConfigError, EngineError, TaijiError
from taiji.store.files import write_json
from taiji.training.agent import FAILURE

EVENTS, JOB = "events.jsonl", "job.json"

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 15  # of processes that are asked to end; then they are killed
_LAST_LINES = 12
_LOOK_SECONDS = 1.0  # between two looks for work, on a machine that lends itself

logger = logging.getLogger(__name__)

OnProgress = Callable[[int, int, str], None]
TrainingOf = Callable[[Mapping[str, Any]], TrainingCompute]


@dataclass(frozen=True)
class Launch:
    """Processes to start.

    Attributes:
        module: What each of them runs, with the path of the job as its argument.
        job: What they are told.
        folder: For the job, what they report and what they print; made anew.
        training: How many, and how.
    """

    module: str
    job: Mapping[str, Any]
    folder: Path
    training: TrainingCompute

    def run(self, on_progress: OnProgress) -> Any:
        """Wait for all and return what the first one has to say.

        Raises:
            TaijiError: What a process raised on purpose.
            EngineError: One of them, or the launcher, died.
        """
        shutil.rmtree(self.folder, ignore_errors=True)  # of an attempt that was killed
        self.folder.mkdir()
        write_json({**self.job, "module": self.module}, self.folder / JOB)
        port = self.training.port or _free_port()
        heard = _Events(self.folder / EVENTS, on_progress)
        with (self.folder / "launcher.log").open("wb") as said:
            agent = subprocess.Popen(
                command(self.module, self.folder, self.training, machine=0, port=port),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=environment(self.training),
                start_new_session=True,  # Ctrl-C comes to us alone; we tell the others
            )
            try:
                while agent.poll() is None:
                    heard.relay()
                    time.sleep(_POLL_SECONDS)
            finally:
                stop(agent)
        heard.relay()
        if agent.returncode:
            raise self._failure(agent.returncode)
        return read_outcome(self.folder, 0)["summary"]

    def _failure(self, code: int) -> TaijiError:
        """The error of whoever failed first; the others fail because they lose that one."""
        total = self.training.total
        for rank in range(total):
            outcome = read_outcome(self.folder, rank)
            if "error" in outcome:
                kind: type[TaijiError] = getattr(errors, outcome["error"])
                who = f"process {rank} of {total}: " if rank else ""
                return kind(who + outcome["text"])
        path = self.folder / FAILURE
        if not path.is_file():
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
            last = _last_lines(self.folder / "launcher.log") if code > 0 else ""
            return EngineError(f"the launcher of {total} processes {how}{last}")
        failure = json.loads(path.read_text(encoding="utf-8"))
        rank, code = failure["rank"], failure["exit_code"]
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        machine, local = divmod(rank, self.training.processes)
        said = sorted(self.folder.glob(f"logs-{machine}/**/{local}/stderr.log"))
        last = _last_lines(said[-1]) if said else ""
        return EngineError(
            f"process {rank} of {total} {how}; the same command goes on from the newest whole "
            f"checkpoint{last}"
        )


class _Events:
    """What the first process reports, line by line as it is written."""

    def __init__(self, path: Path, on_progress: OnProgress) -> None:
        self._path, self._on_progress = path, on_progress
        self._offset = 0

    def relay(self) -> None:
        """Pass on what has come since the last time."""
        if not self._path.is_file():
            return
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            lines = stream.readlines()
        for line in lines:
            if not line.endswith(b"\n"):
                return  # the rest is under way
            self._offset += len(line)
            event = json.loads(line)
            if "progress" in event:
                self._on_progress(*event["progress"])
            else:
                logging.getLogger(event["logger"]).log(event["level"], "%s", event["text"])


def command(
    module: str, folder: Path, training: TrainingCompute, *, machine: int, port: int
) -> list[str]:
    """The command line of torch's launcher on one machine."""
    options: dict[str, str | int | float | bool] = {
        "nnodes": training.machines,
        "nproc-per-node": training.processes,
        "node-rank": machine,
        "master-addr": training.address or "127.0.0.1",
        "master-port": port,
        "log-dir": str(folder / f"logs-{machine}"),
        "redirects": 3,
        **training.launcher,
    }
    flags = [_flag(name, value) for name, value in options.items() if value is not False]
    job = str(folder / JOB)
    agent = [sys.executable, "-m", "taiji.training.agent", str(os.getpid()), str(folder)]
    return [*agent, *flags, "--module", module, job]


def environment(training: TrainingCompute) -> dict[str, str]:
    """What the processes find in theirs: threads, and what Accelerate's launcher would say."""
    from torch import cuda

    cores = os.cpu_count() or 1
    ours = {"OMP_NUM_THREADS": str(max(1, cores // training.processes))} | os.environ
    if not cuda.is_available():
        ours["ACCELERATE_USE_CPU"] = "true"
    return ours


def lend(
    root: Path, machine: int, told: Callable[[str], None], training_of: TrainingOf
) -> NoReturn:
    """Start this machine's processes of every training stage that a run begins, until stopped.

    Args:
        root: The run's folder, at the same place on every machine.
        machine: The number of this one, from 1; the run's own is 0.
        told: Is told what happens.
        training_of: Reads how many processes a job asks for.
    """
    seen: set[tuple[str, int]] = set()
    while True:
        for path in sorted(root.glob(f"*.tmp/.launch/{JOB}")):
            made = (str(path), path.stat().st_mtime_ns)
            if made not in seen:
                seen.add(made)
                told(f"{path.parts[-3].removesuffix('.tmp')} begins")
                told(f"its processes here ended with {_work(path, machine, training_of)}")
        time.sleep(_LOOK_SECONDS)


def _work(path: Path, machine: int, training_of: TrainingOf) -> int:
    job = json.loads(path.read_text(encoding="utf-8"))
    training = training_of(job)
    if training.port is None or not 0 < machine < training.machines:
        raise ConfigError(
            f"--machine {machine}: the run asks for {training.machines} machines: 1 to "
            f"{training.machines - 1} are the others"
        )
    line = command(job["module"], path.parent, training, machine=machine, port=training.port)
    agent = subprocess.Popen(line, env=environment(training), start_new_session=True)
    try:
        return agent.wait()
    finally:
        stop(agent)


def stop(agent: subprocess.Popen[bytes]) -> None:
    """End a launcher and all that it has started, if they still run."""
    if agent.poll() is not None:
        return
    agent.terminate()  # it ends its processes
    try:
        agent.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        agent.kill()  # they die with it
        agent.wait()


def read_outcome(folder: Path, rank: int) -> dict[str, Any]:
    """How a process ended by its own account; empty if it gave none."""
    path = folder / f"outcome-{rank}.json"
    if not path.is_file():
        return {}
    outcome: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return outcome


def _flag(name: str, value: str | int | float | bool) -> str:
    return f"--{name}" if value is True else f"--{name}={value}"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _last_lines(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-_LAST_LINES:]
    plain = [re.sub(r"[^\x20-\x7e\u00a0-\uffff]", "", line) for line in lines]
    return "\n  ".join([": its last lines:", *plain]) if plain else ""
