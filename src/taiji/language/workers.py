"""Where the work of language models is done: in this process, or in Ray actors.

A stage cuts its work into numbered pieces, a few dozen prompts each, and says how a worker is
made. Either way the same worker does the same pieces, whole and by themselves, and a result is
known by its number, whenever and wherever it was done: so a run on many machines writes what a
run on one would have written. Ray Data places the actors, feeds them, and gives the work of a
dead one to another; nothing of that is ours.
"""

import os
import pickle
import signal
import socket
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

import pyarrow as pa

from taiji.config import Compute, RayCompute
from taiji.errors import ConfigError, EngineError, TaijiError

Piece = TypeVar("Piece")
Result = TypeVar("Result")

Note = Callable[[int, int], None]
"""A worker calls it with how much of its piece is done, and how much there is of it."""

Worker = Callable[[Piece, Note], Result]

_CONNECT_SECONDS = 10.0
_OBJECT_STORE_BYTES = 200 * 2**20  # pieces are prompts: megabytes at most


def work(
    compute: Compute,
    build: Callable[[], Worker[Piece, Result]],
    pieces: Mapping[int, Piece],
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, Result]]:
    """Do all pieces and give each result with its number, in whatever order they come.

    Args:
        compute: Where.
        build: Makes a worker: loads its model. Called once here or in each actor, and only if
            there is work. For actors it must survive pickling, as must pieces and results.
        pieces: By number. What is done already is left out by the caller.
        on_progress: Called with a piece's number and how much of it is done. From actors nobody
            hears before a piece is whole.

    Raises:
        ConfigError: The cluster is not there, or too small for the workers.
        EngineError: Ray is missing, or actors keep dying.
        TaijiError: What a worker raised, from wherever.
    """
    if not pieces:
        return
    if isinstance(compute, RayCompute):
        yield from _in_actors(compute, build, pieces)
        return
    worker = build()
    for number, piece in pieces.items():

        def note(done: int, _total: int, number: int = number) -> None:
            if on_progress is not None:
                on_progress(number, done)

        yield number, worker(piece, note)


class _Attempts:
    """Counts how often a piece was begun: an actor of its own, which outlives the others."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, number: int) -> int:
        """Note one more attempt; return how many there were, this one included."""
        self._begun[number] += 1
        return self._begun[number]


class _Actor:
    """What Ray Data keeps alive: one worker, made when its first piece comes.

    What Taiji raises on purpose comes back as a result, so that Ray does not wrap it. The death
    of a process Ray repeats for ever, so work that kills whoever does it is told by its count.
    """

    def __init__(
        self, build: Callable[[], Worker[Any, Any]], begin: Callable[[int], int], max_retries: int
    ) -> None:
        self._build = build
        self._begin = begin
        self._max_retries = max_retries
        self._worker: Worker[Any, Any] | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        number = batch["number"][0].as_py()
        if self._begin(number) > self._max_retries + 1:
            died = f"compute: {self._max_retries + 1} workers died over the same work"
            return _row(number, EngineError(f"{died}: lower batch sizes, or workers a machine"))
        try:
            self._worker = self._worker or self._build()
            return _row(number, self._worker(pickle.loads(batch["content"][0].as_py()), _unheard))
        except TaijiError as error:
            return _row(number, error)


def _unheard(done: int, total: int) -> None:
    """Nobody listens to a worker in another process."""


def _in_actors(
    compute: RayCompute,
    build: Callable[[], Worker[Piece, Result]],
    pieces: Mapping[int, Piece],
) -> Iterator[tuple[int, Result]]:
    with _cluster(compute) as ray, _quiet(ray):
        attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Attempts).remote()
        done = ray.data.from_arrow([_row(*piece) for piece in pieces.items()]).map_batches(
            _Actor,
            fn_constructor_args=(build, _Begin(attempts), compute.max_retries),
            compute=ray.data.ActorPoolStrategy(size=min(compute.workers, len(pieces))),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=compute.cpus,
            num_gpus=compute.gpus or None,
        )
        for batch in done.iter_batches(batch_size=1, batch_format="pyarrow"):
            result = pickle.loads(batch["content"][0].as_py())
            if isinstance(result, TaijiError):
                raise result
            yield batch["number"][0].as_py(), result


@dataclass(frozen=True)
class _Begin:
    """`_Attempts.begin` from another process."""

    attempts: Any

    def __call__(self, number: int) -> int:
        import ray

        return int(ray.get(self.attempts.begin.remote(number)))


def _row(number: int, content: object) -> pa.Table:
    """One row, so that Ray Data takes each piece for a block, and a block for a task."""
    packed = pa.array([pickle.dumps(content)], pa.large_binary())
    return pa.table({"number": pa.array([number], pa.int64()), "content": packed})


@contextmanager
def _cluster(compute: RayCompute) -> Iterator[ModuleType]:
    """Ray, connected: to the session that is open, to a cluster, or to one made for this."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise EngineError("compute: ray is not installed: pip install 'taiji-rec[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports home unless told not to
    on_signal = signal.getsignal(signal.SIGTERM)
    _connect(ray, compute)
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_signal)  # Ray has put its own in place
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _quiet(ray: ModuleType) -> Iterator[None]:
    """Ray Data without bars and words of its own; what it was before, afterwards."""
    with warnings.catch_warnings():
        # Ray 2.60 makes its settings with some that it calls deprecated.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"ray\.")
        context = ray.data.DataContext.get_current()
        before = context.enable_progress_bars, context.print_on_execution_start
        context.enable_progress_bars = context.print_on_execution_start = False
        try:
            yield
        finally:
            context.enable_progress_bars, context.print_on_execution_start = before


def _connect(ray: ModuleType, compute: RayCompute) -> None:
    if compute.address is None:
        if compute.gpus:
            _require_gpus(compute)
        ray.init(
            num_cpus=compute.workers * compute.cpus + 1,  # logical: one for Ray Data's own tasks
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            logging_level="warning",
        )
        return
    try:
        if compute.address != "auto":  # Ray would try for minutes
            host, port = compute.address.split(":")
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        ray.init(address=compute.address, logging_level="warning")
    except OSError as error:  # what Ray raises is one too
        raise ConfigError(
            f"compute.address: no Ray cluster at {compute.address} ({error}): start one with "
            "`ray start --head`, or leave the address out"
        ) from error


def _require_gpus(compute: RayCompute) -> None:
    """Ray would wait for ever for GPUs that no machine of the cluster has."""
    import torch

    needed, there = compute.workers * compute.gpus, torch.cuda.device_count()
    if needed > there:
        raise ConfigError(
            f"compute.gpus: {compute.workers} workers need {needed:g} GPUs and this machine has "
            f"{there}: lower compute.workers or compute.gpus"
        )
