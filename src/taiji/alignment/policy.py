"""Aligning a recommender's student: its prompts, its settings, its run (stage 3).

Everything about recommenders meets everything about training here; `PopoTrainer` itself knows
of neither prompts nor items.
"""

import logging
import math
import warnings
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from torch import nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from taiji.alignment.popo.config import PopoConfig
from taiji.alignment.popo.gbpo import gbpo_factor
from taiji.alignment.popo.trainer import PopoTrainer
from taiji.alignment.popo.weight_rule import WeightRule
from taiji.alignment.rewards.reward import Rollout
from taiji.alignment.rollouts import PolicyRewards
from taiji.config import ONE_PROCESS, AlignSection, TrainingCompute
from taiji.errors import ConfigError, DataError
from taiji.language.models import freeze_all_but_last, in_float32
from taiji.reasoning.prompts import PromptFitter, losses
from taiji.training.checkpoints import KeepNewestWhole, newest_complete
from taiji.training.processes import all_say, wants_bfloat16
from taiji.training.trainer_arguments import check_trainer_arguments

logger = logging.getLogger(__name__)


_AGGREGATIONS = {"rewards": "sum_then_normalize", "advantages": "normalize_then_sum"}

OnStep = Callable[[dict[str, float], list[Rollout]], None]
"""Called after each step with its metrics and the rollouts that were new in it."""


@dataclass(frozen=True)
class PolicyRun:
    """How one policy is trained.

    Attributes:
        section: Settings of stage 3.
        max_completion_tokens: Chain of thought plus answer.
        seed: Of the order of prompts and of sampling.
        folder: For checkpoints; the caller removes it when the result is safe.
        training: How many processes there are.
    """

    section: AlignSection
    max_completion_tokens: int
    seed: int
    folder: Path
    training: TrainingCompute = ONE_PROCESS


def policy_prompts(
    examples: Iterable[Mapping[str, Any]], fitter: PromptFitter
) -> tuple[Dataset, dict[str, int]]:
    """The rows that TRL trains on: prompts as token ids, and whose they are.

    Ids instead of text keep the second fence up: what strangers wrote has been tokenised apart
    from the chat template.

    Returns:
        The rows, and how much of the histories the budget of tokens left out of them.
    """
    ids, ends, dropped = array("q"), array("q", [0]), array("q")
    names: list[str] = []
    for row in examples:
        prompt, num_dropped = fitter.fit(row)
        ids.extend(fitter.scaffold.prompt_ids(prompt))
        ends.append(len(ids))
        dropped.append(num_dropped)
        names.append(row["example_id"])
    offsets = pa.array(np.frombuffer(ends, np.int64))
    prompts = pa.LargeListArray.from_arrays(offsets, pa.array(np.frombuffer(ids, np.int64)))
    return Dataset(pa.table({"prompt": prompts, "example_id": names})), losses(dropped)


def train_policy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Dataset,
    rewards: PolicyRewards,
    run: PolicyRun,
    on_step: OnStep,
) -> int:
    """Tune `model` in place; go on from the newest whole checkpoint in `run.folder`.

    Args:
        model: The student after SFT; its weights change.
        tokenizer: Its own.
        prompts: From `policy_prompts`.
        rewards: Called on every rollout.
        run: Settings.
        on_step: Is told of every step of this call, in order.

    Returns:
        The number of trained parameters.

    Raises:
        ConfigError: A setting is refused, by us or by TRL.
        DataError: There are fewer prompts than one step takes.
        DivergenceError: A reward, a loss or a weight is not finite.
    """
    section, trained_dtype = run.section, model.dtype
    if len(prompts) < section.prompts_per_step:
        raise DataError(
            f"align: {len(prompts)} prompts for steps of {section.prompts_per_step}: raise "
            "data.num_rl or lower align.prompts_per_step"
        )
    num_trained = freeze_all_but_last(model, section.trainable_layers)
    arguments = policy_config(run)
    in_float32(model, mixed=bool(arguments.bf16 or arguments.fp16))
    with _known_warnings():
        trainer = PopoTrainer(
            model,
            rewards.functions(),
            arguments,
            rule=WeightRule(section.weights, rewards.names, np.array(_initial_weights(section))),
            train_dataset=prompts,
            processing_class=tokenizer,
            callbacks=[KeepNewestWhole(), _StepReporter(rewards, on_step)],
            token_factor=gbpo_factor if section.policy_loss == "gbpo" else None,
        )
        trainer.remove_callback(PrinterCallback)
        _train(trainer, newest_complete(run.folder), section.steps)
    nn.Module.to(model, trained_dtype)
    nn.Module.eval(model)
    return num_trained


def policy_config(run: PolicyRun) -> PopoConfig:
    """TRL's configuration: ours, over which the recipe's own fields go.

    A step's prompts are shared out among the processes. A micro-batch holds the rollouts of one
    prompt; `align.trainer.gradient_accumulation_steps` chooses another number of micro-batches.

    Raises:
        ConfigError: A key is unknown or decided elsewhere, or a value is refused.
    """
    section = run.section
    check_trainer_arguments(PopoConfig, section.trainer, "align.trainer")
    prompts = run.training.share("align.prompts_per_step", section.prompts_per_step)
    num_rollouts = prompts * section.num_generations
    micro_batches = section.trainer.get("gradient_accumulation_steps", prompts)
    if not isinstance(micro_batches, int) or micro_batches < 1 or num_rollouts % micro_batches:
        raise ConfigError(
            f"align.trainer.gradient_accumulation_steps: {micro_batches}: must divide the "
            f"{num_rollouts} rollouts of a step that each of {run.training.total} processes has"
        )
    if section.trainer.get("steps_per_generation", micro_batches) < micro_batches:
        raise ConfigError(
            f"align.trainer.steps_per_generation: below the {micro_batches} micro-batches of a "
            "step: its rollouts would be of several generations, each weighed by itself; leave it "
            "out, or choose a multiple"
        )
    on_gpu = torch.cuda.is_available()
    ours: dict[str, Any] = {
        "output_dir": str(run.folder),
        "seed": run.seed,
        **section.weights.arguments(),
        "reward_weights": _initial_weights(section),
        "multi_objective_aggregation": _AGGREGATIONS[section.weights.act_on],
        "max_steps": section.steps,
        "per_device_train_batch_size": num_rollouts // micro_batches,
        "gradient_accumulation_steps": micro_batches,
        "num_generations": section.num_generations,
        "max_completion_length": run.max_completion_tokens,
        "learning_rate": section.learning_rate,
        "loss_type": section.loss_type,
        "beta": section.beta,
        "temperature": section.temperature,
        "save_strategy": "steps",
        "save_steps": section.checkpoint_steps,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would write the last good loss instead
        "disable_tqdm": True,
        "report_to": "none",
        "use_cpu": not on_gpu,
        "bf16": wants_bfloat16(run.training, on_gpu) and not section.trainer.get("fp16"),
        "popo_own_draws": True,
    }
    try:
        return PopoConfig(**(ours | section.trainer))
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"align.trainer: refused by TRL: {error}") from error


def _initial_weights(section: AlignSection) -> list[float]:
    """w(0), in the order of the rewards."""
    names = section.rewards.names
    initial = section.weights.initial or dict.fromkeys(names, 1 / len(names))
    return [initial[name] for name in names]


def _train(trainer: PopoTrainer, checkpoint: tuple[Path, int] | None, steps: int) -> None:
    if checkpoint is None:
        trainer.train()
        return
    path, step = checkpoint
    logger.info("resuming from step %d", step)
    if step >= steps:  # killed after the last step: the trainer would take one more
        trainer._load_from_checkpoint(str(path))
    else:
        trainer.train(resume_from_checkpoint=str(path))


@contextmanager
def _known_warnings() -> Iterator[None]:
    """TRL 1.16 asks transformers 5.23 for a property by its old name, at every generation."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


class _StepReporter(TrainerCallback):
    """Hands each step's metrics and rollouts on."""

    def __init__(self, rewards: PolicyRewards, on_step: OnStep) -> None:
        self._rewards = rewards
        self._on_step = on_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float | None] | None = None,
        **kwargs: Any,
    ) -> None:
        """Runs after each step, and once more at the end with a summary that has no loss."""
        if logs is None or "loss" not in logs:
            return
        rollouts = [one for own in all_say(self._rewards.take()) for one in own]
        if not state.is_world_process_zero:
            return
        row: dict[str, float] = {"step": state.global_step}
        for name, value in logs.items():
            if value is not None and math.isfinite(value):
                row[name.removeprefix("popo/")] = value
        self._on_step(row, rollouts)

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Runs after each checkpoint: who resumes from it will remember nothing either."""
        self._rewards.forget()
