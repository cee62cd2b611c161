"""One of several processes that train together: which it is, and what they agree on.

torch's launcher tells each by the environment; a process by itself is the first of one.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from taiji.config import TrainingCompute

Answer = TypeVar("Answer")

_PR_SET_PDEATHSIG = 1


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def num_processes() -> int:
    """Of all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process writes what all of them have made."""
    return rank() == 0


def first_says(ask: Callable[[], Answer]) -> Answer:
    """What the first process finds, told to all; the others do not look."""
    if num_processes() == 1:
        return ask()
    import torch.distributed as dist

    told: list[Any] = [ask() if is_first() else None]
    dist.broadcast_object_list(told, src=0)
    answer: Answer = told[0]
    return answer


def all_say(value: Answer) -> list[Answer]:
    """What each process has, in their order."""
    if num_processes() == 1:
        return [value]
    import torch.distributed as dist

    told: list[Any] = [None] * num_processes()
    dist.all_gather_object(told, value)
    return told


def wait_for_all() -> None:
    """Until every process is here."""
    if num_processes() > 1:
        import torch.distributed as dist

        dist.barrier()


def shards(training: TrainingCompute) -> int:
    """Into how many shares a model is cut that these processes train."""
    return num_processes() if training.strategy == "fsdp2" else 1


def wants_bfloat16(training: TrainingCompute, on_gpu: bool) -> bool:
    """Mixed precision: as the recipe says, else where a GPU has it."""
    if training.mixed_precision != "auto":
        return training.mixed_precision == "bf16"
    if not on_gpu:
        return False  # many CPUs are a hundred times slower in it
    import torch

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def die_with(parent: int) -> None:
    """End this process, by the kernel's hand, when the one that started it is gone.

    Args:
        parent: Its number; if it is gone already, this one ends now.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)
