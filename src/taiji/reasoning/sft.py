"""ORFT's fine-tuning (Eq. 2): next-token loss over chain and answer, on TRL's SFTTrainer.

L = -mean over sequences of sum_t log P(y_t | prompt, y_<t), y = chain and answer, prompt masked.
That is `sft.loss: sequence_sum`. TRL divides a batch's sum by its number of completion tokens
(`token_mean`). The factor between the two differs from batch to batch, and Adam, whose moments
remember earlier batches, does not cancel it: the two train different models.
"""

import logging
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from taiji.config import ONE_PROCESS, LoraSection, SftSection, TrainingCompute
from taiji.errors import ConfigError, DivergenceError
from taiji.language.models import freeze_all_but_last, in_float32, quiet_loading
from taiji.language.output_head import has_plain_head
from taiji.language.sharded import ShardedCheckpoints
from taiji.training.checkpoints import KeepNewestWhole, newest_complete
from taiji.training.processes import rank, wants_bfloat16
from taiji.training.trainer_arguments import check_trainer_arguments

__all__ = ["StudentRun", "TrainingRow", "check_trainer_arguments", "sft_loss", "train_student"]

logger = logging.getLogger(__name__)

_IGNORED = -100  # the label that every loss of this family leaves out
_WARM_UP_SHARE = 0.05
_ROWS_AT_A_TIME = 4096  # written at once
_METRICS = ("loss", "grad_norm", "learning_rate", "epoch")

OnStep = Callable[[dict[str, float], int], None]
"""Called after each optimisation step with its metrics and the number of all steps."""


@dataclass(frozen=True)
class TrainingRow:
    """One example as token ids; only the completion counts in the loss.

    Arrays of numbers hold a tenth of what lists hold.
    """

    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]


def sft_loss(logprobs: Sequence[NDArray[np.float64]]) -> float:
    """Eq. 2: minus the log-probability of a sequence's tokens, averaged over the sequences.

    The reference that the trainer is tested against.

    Args:
        logprobs: For each example of a step, log P of its completion's tokens.
    """
    return float(-np.mean([tokens.sum() for tokens in logprobs]))


def token_mean_loss(logprobs: Sequence[NDArray[np.float64]]) -> float:
    """TRL's loss: minus the mean log-probability over all completion tokens of a step.

    A long sequence weighs more than a short one, each of its tokens the same as any other.

    Args:
        logprobs: As for `sft_loss`.
    """
    return float(-np.concatenate(logprobs).mean())


@dataclass(frozen=True)
class StudentRun:
    """How one student is trained.

    Attributes:
        section: Settings of Eq. 2.
        seed: Of the order of examples.
        folder: For checkpoints; the caller removes it when the result is safe.
        training: How many processes there are, and what each of them does at a time.
    """

    section: SftSection
    seed: int
    folder: Path
    training: TrainingCompute = ONE_PROCESS


def train_student(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[TrainingRow],
    run: StudentRun,
    on_step: OnStep,
) -> int:
    """Tune `model` in place; go on from the newest whole checkpoint in `run.folder`.

    A run that was killed and resumed ends with the same weights as one that was not (on a
    CPU, bit for bit). Under torch's launcher every process calls it with the same arguments, and
    the first alone reports and writes.

    Args:
        model: The student; its weights change.
        tokenizer: Its own.
        rows: At least one example.
        run: Settings.
        on_step: Is told of every step of this call.

    Returns:
        The number of trained parameters.

    Raises:
        ConfigError: A field of `section.trainer` is unknown or refused by TRL, or the model has
            no such layers or modules to train.
        DivergenceError: The loss or the gradient is not finite.
    """
    section, trained_dtype = run.section, model.dtype
    trained: PreTrainedModel | PeftModel = model
    if section.lora is None:
        freeze_all_but_last(model, section.trainable_layers)
    else:
        trained = _with_adapter(model, section.lora, run.seed)
    arguments = _arguments(run)
    in_float32(trained, mixed=bool(arguments.bf16 or arguments.fp16))
    num_trained = sum(p.numel() for p in trained.parameters() if p.requires_grad)
    trainer = CompletionTrainer(
        per_sequence=section.loss == "sequence_sum",
        model=trained,
        args=arguments,
        train_dataset=_dataset(rows, run.folder / f"rows-{rank()}.arrow"),
        processing_class=tokenizer,
        callbacks=[KeepNewestWhole(), _StepReporter(on_step)],
    )
    trainer.remove_callback(PrinterCallback)
    checkpoint = newest_complete(run.folder)
    if checkpoint is not None:
        logger.info("resuming from step %d", checkpoint[1])
    with quiet_loading():
        trainer.train(resume_from_checkpoint=str(checkpoint[0]) if checkpoint else None)
    if isinstance(trained, PeftModel):
        trained.merge_and_unload()  # in place: `model` is plain again
    nn.Module.to(model, trained_dtype)
    nn.Module.eval(model)
    return num_trained


def _with_adapter(model: PreTrainedModel, section: LoraSection, seed: int) -> PeftModel:
    """Hang an adapter into the model's linear layers, all but the output head, unless named."""
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=section.rank,
        lora_alpha=section.alpha,  # type: ignore[arg-type]  # PEFT takes fractions too
        target_modules=list(section.targets) if section.targets else "all-linear",
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        # PEFT asks for an old name of transformers
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        torch.manual_seed(seed)
        try:
            adapted = get_peft_model(model, config)
        except ValueError as error:
            raise ConfigError(f"sft.lora.targets: refused by PEFT: {error}") from error
    assert isinstance(adapted, PeftModel)
    return adapted


class CompletionTrainer(ShardedCheckpoints, SFTTrainer):  # type: ignore[misc]  # TRL has no types
    """SFTTrainer that knows Eq. 2 and spares the output head the prompt's positions off the GPU.

    TRL's fused head skips masked positions only where Triton runs. On a CPU it multiplies
    every prompt token with the vocabulary, forward and backward, to mask the result.

    Args:
        per_sequence: Divide the sum over a batch by its sequences (Eq. 2), not by its tokens.
        settings: SFTTrainer's own arguments.
    """

    def __init__(self, *, per_sequence: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self._per_sequence = per_sequence

    def _get_num_items_in_batch(
        self, batch_samples: list[dict[str, Tensor]], device: torch.device
    ) -> Tensor | int | None:
        """What a batch's sum is divided by, over all processes and accumulated micro-batches."""
        if self._per_sequence:
            batch_samples = [{"labels": _one_label_each(batch)} for batch in batch_samples]
        return super()._get_num_items_in_batch(batch_samples, device)  # type: ignore[no-any-return]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """-log P over completion tokens, divided as above: TRL's `nll`; other losses are TRL's."""
        if return_outputs or not self._is_plain():
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        decoder, head = self.model.get_decoder(), self.model.get_output_embeddings()
        places = {name: inputs[name] for name in ("attention_mask", "position_ids")
                  if name in inputs}  # fmt: skip  # padding-free batches have positions alone
        targets = inputs["labels"][:, 1:]
        counted = targets != _IGNORED
        with self.accelerator.autocast():  # which only the whole model's forward enters by itself
            output = decoder(input_ids=inputs["input_ids"], use_cache=False, **places)
            logits = head(output.last_hidden_state[:, :-1][counted])
        total = nn.functional.cross_entropy(logits.float(), targets[counted], reduction="sum")
        return total / (counted.sum() if num_items_in_batch is None else num_items_in_batch)

    def _is_plain(self) -> bool:
        """Whether the loss is this sum and nothing more, in one process on a CPU."""
        return (
            self.args.device.type == "cpu"
            and self.args.world_size == 1
            and self.args.loss_type == "nll"
            and not self.args.label_smoothing_factor
            and not self.aux_loss_enabled
            and has_plain_head(self.model)
        )


def _one_label_each(batch: Mapping[str, Tensor]) -> Tensor:
    """Labels of as many sequences as the batch has, of which one token each counts."""
    starts = batch.get("position_ids")  # rows without padding hold several sequences
    num = len(batch["labels"]) if starts is None else int((starts == 0).sum())
    return torch.tensor([[_IGNORED, 0]], device=batch["labels"].device).expand(num, 2)


class _StepReporter(TrainerCallback):
    """Hands every step's metrics on, and stops a run that diverges."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Runs after each step, and once more at the end with a summary that has no loss."""
        if logs is None or "loss" not in logs:
            return
        row = {
            "step": state.global_step,
            **{name: float(logs[name]) for name in _METRICS if name in logs},
        }
        broken = [name for name, value in row.items() if not math.isfinite(value)]
        if broken:
            raise DivergenceError(
                f"sft: step {state.global_step}: {' and '.join(broken)} not finite: "
                "lower sft.learning_rate"
            )
        if state.is_world_process_zero:
            self._on_step(row, state.max_steps)


def _arguments(run: StudentRun) -> SFTConfig:
    """TRL's configuration: ours, over which the recipe's own fields go.

    Raises:
        ConfigError: TRL does not take a field or its value, or the batch cannot be shared out.
    """
    section, training = run.section, run.training
    check_trainer_arguments(SFTConfig, section.trainer, "sft.trainer")
    on_gpu = torch.cuda.is_available()
    each = training.share("sft.batch_size", section.batch_size)
    micro_batches = section.trainer.get("gradient_accumulation_steps", training.micro_batches(each))
    if not isinstance(micro_batches, int) or micro_batches < 1 or each % micro_batches:
        raise ConfigError(
            f"sft.trainer.gradient_accumulation_steps: {micro_batches}: must divide the {each} "
            f"examples that each of {training.total} processes has of sft.batch_size"
        )
    ours: dict[str, Any] = {
        "output_dir": str(run.folder),
        "seed": run.seed,
        "num_train_epochs": section.epochs,
        "learning_rate": section.learning_rate,
        "per_device_train_batch_size": each // micro_batches,
        "gradient_accumulation_steps": micro_batches,
        "save_strategy": "steps",
        "save_steps": section.checkpoint_steps,
        "lr_scheduler_type": "cosine",
        "warmup_steps": _WARM_UP_SHARE,
        # TRL turns these on everywhere
        "bf16": wants_bfloat16(training, on_gpu),
        "activation_checkpointing": on_gpu,
        "dataloader_pin_memory": on_gpu,
        "use_cpu": not on_gpu,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would write the last good loss instead
        "disable_tqdm": True,
        "report_to": "none",
        "max_length": None,  # rows come cut to size
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }
    try:
        return SFTConfig(**(ours | section.trainer))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"sft.trainer: refused by TRL: {error}") from error


def _dataset(rows: Sequence[TrainingRow], path: Path) -> Dataset:
    """Ready-made rows: TRL neither templates, tokenises, truncates nor packs them.

    They are written to a file that is mapped, so that they need not stay in memory.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lists = pa.large_list(pa.int32())
    schema = pa.schema([pa.field("input_ids", lists), pa.field("labels", lists)])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
        for start in range(0, len(rows), _ROWS_AT_A_TIME):
            stream.write_batch(_batch(rows[start : start + _ROWS_AT_A_TIME], schema))
    return Dataset.from_file(str(path))


def _batch(rows: Sequence[TrainingRow], schema: pa.Schema) -> pa.RecordBatch:
    ids: list[NDArray[np.int64]] = []
    labels: list[NDArray[np.int64]] = []
    for row in rows:
        prompt, completion = (np.asarray(part) for part in (row.prompt_ids, row.completion_ids))
        ids.append(np.concatenate([prompt, completion]))
        labels.append(np.concatenate([np.full_like(prompt, _IGNORED), completion]))
    offsets = pa.array(np.cumsum([0, *map(len, ids)]), pa.int64())
    columns = [
        pa.LargeListArray.from_arrays(offsets, pa.array(np.concatenate(parts), pa.int32()))
        for parts in (ids, labels)
    ]
    return pa.record_batch(columns, schema=schema)
