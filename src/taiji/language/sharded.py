"""Checkpoints of a model that several processes hold in shares (FSDP2, sharded when it was loaded).

The Trainer of transformers 5.23 saves the optimiser's shares of the first process alone, and so
refuses to save what could be resumed; transformers itself has what it takes.
"""

import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from transformers.distributed.checkpoint import (
    load_optimizer_distributed,
    save_optimizer_distributed,
)
from transformers.trainer_utils import SaveStrategy

_OPTIMIZER, _SCHEDULER = "optimizer", "scheduler.pt"


def is_sharded(model: object) -> bool:
    """Whether each process holds but a share of the model."""
    return bool(getattr(model, "is_distributed_loading_by_transformers", False))


class ShardedCheckpoints:
    """Stands before a Trainer in a class's bases, and steps in where the model is sharded."""

    def __init__(self, *, model: Any, args: Any, **settings: Any) -> None:
        strategy = args.save_strategy
        if is_sharded(model):
            args.save_strategy = SaveStrategy.NO  # else it would be refused; see above
        super().__init__(model=model, args=args, **settings)  # type: ignore[call-arg]
        args.save_strategy = strategy

    model: Any
    optimizer: Any
    lr_scheduler: Any
    args: Any

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not is_sharded(self.model):
            super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[misc]
            return
        folder = Path(output_dir)
        save_optimizer_distributed(self.model, _plain(self.optimizer), str(folder / _OPTIMIZER))
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), folder / _SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not is_sharded(self.model):
            super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
            return
        folder = Path(checkpoint)
        load_optimizer_distributed(self.model, _plain(self.optimizer), str(folder / _OPTIMIZER))
        state = torch.load(folder / _SCHEDULER, weights_only=True)
        self.lr_scheduler.load_state_dict(state)

    def _load_from_checkpoint(self, checkpoint: str, model: nn.Module | None = None) -> None:
        if not is_sharded(self.model):
            super()._load_from_checkpoint(checkpoint, model)  # type: ignore[misc]
            return
        whole: dict[str, Any] = {}
        if os.environ.get("RANK", "0") == "0":
            for path in sorted(Path(checkpoint).glob("*.safetensors")):
                whole |= load_file(path)
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
        set_model_state_dict(self.model, whole, options=options)


def _plain(optimizer: Any) -> torch.optim.Optimizer:
    """Out of Accelerate's wrapper."""
    plain: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return plain
