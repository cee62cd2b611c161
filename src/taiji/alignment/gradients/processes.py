"""Gradients of a model that several processes hold: replicated (DDP) or in shares (FSDP2).

Every process sees its own rollouts. DDP and FSDP2 average gradients over processes, and so does
everything here; inner products of shares are summed share by share, so that no process ever
holds K gradients of the whole model.

Shape suffix: K rewards.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from taiji.alignment.gradients.gram import Array
from taiji.alignment.trl_surface import GrpoTrainer


def is_sharded(trainer: GrpoTrainer) -> bool:
    """Whether each process holds but a share of the trained parameters (FSDP2)."""
    return any(isinstance(p, DTensor) for p in trainer.model.parameters())


def reshard(trainer: GrpoTrainer) -> None:
    """Give up the full copies that FSDP2 keeps after a forward pass without a backward one.

    Generation leaves weights gathered, the root's and those of the last norm and the head, which
    are gathered apart; `parameters()` would then name the copies.
    """
    for module in trainer.model.modules() if is_sharded(trainer) else ():
        if isinstance(module, FSDPModule):
            module.reshard()


@contextmanager
def reducing(trainer: GrpoTrainer) -> Iterator[None]:
    """Let FSDP2 reduce gradients, though accumulation has it wait for the last micro-batch."""
    trainer.model.set_requires_gradient_sync(True)
    try:
        yield
    finally:
        trainer.model.set_requires_gradient_sync(trainer.accelerator.sync_gradients)


def average(gradients: Sequence[list[torch.Tensor]], trainer: GrpoTrainer) -> None:
    """Put averages over processes in the place of gradients; FSDP2 has done so by itself."""
    if trainer.accelerator.num_processes == 1 or is_sharded(trainer):
        return
    for gradient in gradients:
        for place, tensor in enumerate(gradient):
            mean = tensor.clone(memory_format=torch.contiguous_format)  # others may hold it too
            dist.all_reduce(mean, op=dist.ReduceOp.SUM)
            gradient[place] = mean.div_(trainer.accelerator.num_processes)


def local(gradients: Sequence[Sequence[torch.Tensor]]) -> list[list[torch.Tensor]]:
    """The shares that this process holds."""
    return [[_share(tensor) for tensor in gradient] for gradient in gradients]


def _share(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def total_gram(gram_KK: Array, trainer: GrpoTrainer) -> Array:
    """Inner products over all shares, from those over the local ones."""
    return summed(gram_KK, trainer) if is_sharded(trainer) else gram_KK


def total_blocks(blocks_KK: Array, num_blocks: int, trainer: GrpoTrainer) -> tuple[Array, int]:
    """The sum of the micro-batches' own inner products, and how many blocks it runs over.

    With DDP each process has micro-batches of its own, whose gradients enter the average with
    1 / processes. With FSDP2 a micro-batch is the same block on all of them.
    """
    num_processes = trainer.accelerator.num_processes
    if num_processes == 1 or is_sharded(trainer):
        return blocks_KK, num_blocks
    return summed(blocks_KK, trainer) / num_processes**2, num_blocks * num_processes


def summed(values: Array, trainer: GrpoTrainer) -> Array:
    """The sum of each process's own values."""
    if trainer.accelerator.num_processes == 1:
        return values
    tensor = torch.from_numpy(values.copy()).to(trainer.accelerator.device)
    dist.all_reduce(tensor)
    total: Array = tensor.cpu().numpy()
    return total


def all_agree(agreed: bool, trainer: GrpoTrainer) -> bool:
    """Whether all processes say yes: a backward pass that only some of them run never ends."""
    return bool(summed(np.array([0.0 if agreed else 1.0]), trainer)[0] == 0)
