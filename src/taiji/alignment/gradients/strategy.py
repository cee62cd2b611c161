"""Which way to each reward's gradient is the cheapest here, and is it right.

Shape suffix: K rewards.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from taiji.alignment.gradients import processes
from taiji.alignment.gradients.by_reward import Geometry, RewardGradients, same_geometry
from taiji.alignment.gradients.forward import has_plain_head
from taiji.alignment.gradients.known_update import Update, known_update
from taiji.alignment.gradients.row_scaling import CannotScaleRowsError, OutputTape
from taiji.alignment.gradients.shared_prompts import num_tokens_saved
from taiji.errors import ConfigError

logger = logging.getLogger(__name__)

ALONE = "popo_advantages"
"""The column with each rollout's advantage under each reward alone."""

Batch = dict[str, Any]


class Ways:
    """Measures the gradients of a trainer's rewards.

    Raises:
        ConfigError: `popo_split` has no two independent micro-batches, or the approximation
            names blocks that the model does not have.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._rows_refused: str | None = self._why_no_rows()
        self._rows_checked = False
        _counting(trainer)  # refuses what it cannot find
        if trainer.rule.needs_unbiased:
            _refuse_dependent_blocks(trainer)

    @property
    def _parameters(self) -> list[torch.nn.Parameter]:
        """Anew each time: engines put other objects in their place when training begins."""
        return _counting(self._trainer)

    def measure(self, batches: Sequence[Batch]) -> tuple[RewardGradients, Geometry]:
        """The gradients of one generation, and their inner products.

        Raises:
            DivergenceError: A gradient is NaN or infinite.
        """
        if self._rows_refused is None and self._rows_are_cheaper(batches):
            try:
                found = self._run(batches, OutputTape(self._trainer.model, self._parameters))
                if self._rows_checked or same_geometry(found[1], self._run(batches, None)[1]):
                    self._rows_checked = True
                    return found
                self._rows_refused = "its weights are used outside the modules that own them"
            except CannotScaleRowsError as error:
                self._rows_refused = str(error)
            logger.info("gradients by row scaling: not for this model: %s", self._rows_refused)
        return self._run(batches, None)

    def update(self, measured: RewardGradients) -> Update | None:
        """The gradient of the coming update, if what was measured holds it."""
        trainer = self._trainer
        windows = trainer.args.steps_per_generation / trainer.current_gradient_accumulation_steps
        if windows > 1 or trainer.args.fp16 or trainer.args.popo_last_blocks is not None:
            return None  # later updates see another policy; a scaler scales what we would not
        if trainer._entropy_bonus_enabled or trainer.aux_loss_enabled:
            return None  # terms of the loss that are no reward's
        return known_update(measured, trainer)

    def _run(
        self, batches: Sequence[Batch], tape: OutputTape | None
    ) -> tuple[RewardGradients, Geometry]:
        trainer = self._trainer
        processes.reshard(trainer)
        measured = RewardGradients(trainer, self._parameters, unbiased=trainer.rule.needs_unbiased)
        for batch in batches:
            measured.add(batch, tape)
        windows = len(batches) / trainer.current_gradient_accumulation_steps
        return measured, measured.finish(windows)

    def _why_no_rows(self) -> str | None:
        """What rules row scaling out from the start."""
        trainer = self._trainer
        if not has_plain_head(trainer.model) or processes.is_sharded(trainer):
            return "its head or its parameters are not plain"
        if trainer.args.gradient_checkpointing:
            return "recording would keep the activations that checkpointing lets go"
        if trainer.args.bf16 or trainer.args.fp16:
            return "mixed precision casts weights on their way into modules"
        if trainer.beta != 0:
            return "the KL term gives rewards cotangents that are not parallel"
        if trainer.args.popo_last_blocks is not None:
            return "the gradients of the last blocks alone cost less by products"
        return None

    def _rows_are_cheaper(self, batches: Sequence[Batch]) -> bool:
        """Count token passes: forward 1, activations' gradients 1, weights' gradients 1 or 0."""
        trainer = self._trainer
        num_rewards = len(trainer.reward_funcs)
        alone = sum(_num_tokens(batch) for batch in batches)
        shared = alone - (sum(map(_saved, batches)) if trainer.args.share_prompts else 0)
        trained = sum(p.numel() for p in self._parameters)
        weights = 0 if 10 * trained < sum(p.numel() for p in trainer.model.parameters()) else 1
        on_advantages = trainer.multi_objective_aggregation == "normalize_then_sum"
        in_span = on_advantages or trainer.args.popo_keep_micro_batches
        by_rows = alone * (2 + num_rewards * weights)
        by_products = shared * (1 + num_rewards * (1 + weights))
        by_products += 0 if in_span else shared * (2 + weights)
        if weights and not in_span:
            by_rows += shared * 3
        return by_rows < by_products


def _num_tokens(batch: Batch) -> int:
    return int(batch["prompt_ids"].numel() + batch["completion_ids"].numel())


def _saved(batch: Batch) -> int:
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    return num_tokens_saved(ids, mask, batch["completion_ids"].shape[1])


def _counting(trainer: Any) -> list[torch.nn.Parameter]:
    """The trained parameters whose gradients enter the inner products."""
    trained = [(n, p) for n, p in trainer.model.named_parameters() if p.requires_grad]
    last = trainer.args.popo_last_blocks
    if last is None:
        return [p for _, p in trained]
    num_blocks = trainer.model.config.get_text_config().num_hidden_layers
    wanted = {str(block) for block in range(max(0, num_blocks - last), num_blocks)}
    chosen = [p for name, p in trained if not wanted.isdisjoint(name.split("."))]
    if not chosen:
        raise ConfigError(f"popo_last_blocks: {last}: none of the trained weights lies there")
    return chosen


def _refuse_dependent_blocks(trainer: Any) -> None:
    args = trainer.args
    size, group = args.per_device_train_batch_size, trainer.num_generations
    if size % group:
        raise ConfigError(
            f"rule popo_split: micro-batches of {size} rollouts cut through groups of {group}: "
            "make per_device_train_batch_size a multiple of num_generations"
        )
    num_blocks = args.steps_per_generation * trainer.accelerator.num_processes
    if num_blocks < 2:
        raise ConfigError(
            "rule popo_split: needs two micro-batches at least, whose gradients are independent: "
            "raise gradient_accumulation_steps"
        )
