"""What PopoTrainer refuses: rewards that are wrong, settings that cannot work.

TRL reads None as "this reward does not apply to this rollout" and turns it into NaN, so a real
NaN would pass for a missing value and quietly leave the mix. The guard looks before TRL does.
"""

import functools
import logging
import math
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from trl.trainer.utils import is_async_callable

from taiji.alignment.gradients import processes
from taiji.alignment.trl_surface import GrpoTrainer
from taiji.errors import ConfigError, DataError, DivergenceError, EngineError, TaijiError
from taiji.rule_settings import RuleSettings
from taiji.safe_text import printable

logger = logging.getLogger(__name__)

_PROMPT_CHARACTERS = 80
_LARGEST = float(torch.finfo(torch.float32).max)


def guard_rewards(rewards: list[Any], names: Sequence[str]) -> None:
    """Put a guard around each reward function; reward models stay as they are."""
    for k, (reward, name) in enumerate(zip(rewards, names, strict=True)):
        if not isinstance(reward, torch.nn.Module):
            rewards[k] = guarded(reward, name)


def guarded(reward: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The same reward function, refusing to return anything but one finite number or None each.

    Raises:
        DivergenceError: A value is NaN or infinite.
        EngineError: The function raised, or returned something else than a number or None for
            each completion. An error of ours keeps its class.

    Every message names step, reward and prompt.
    """
    if is_async_callable(reward):

        @functools.wraps(reward, updated=())
        async def checked_async(*args: Any, **kwargs: Any) -> Any:
            with _named(name, kwargs):
                values = await reward(*args, **kwargs)
            return _checked(values, name, kwargs)

        return checked_async

    @functools.wraps(reward, updated=())
    def checked(*args: Any, **kwargs: Any) -> Any:
        with _named(name, kwargs):
            values = reward(*args, **kwargs)
        return _checked(values, name, kwargs)

    return checked


@contextmanager
def _named(name: str, kwargs: dict[str, Any]) -> Iterator[None]:
    """Say which reward failed, at which step, on which prompts."""
    try:
        yield
    except TaijiError as error:
        raise type(error)(f"{_where(name, kwargs)}: {error}") from error
    except MemoryError:  # not the reward's fault, and the runner knows what to advise
        raise
    except Exception as error:  # a reward is anybody's code: it may fail in any way
        what = f"{type(error).__name__}: {error}"
        first = _which(0, kwargs)
        raise EngineError(
            f"{_where(name, kwargs)}: raised {what}: the first prompt was {first}"
        ) from error


def _checked(values: Any, name: str, kwargs: dict[str, Any]) -> Sequence[Any]:
    where, asked = _where(name, kwargs), len(kwargs["completions"])
    if not isinstance(values, Sequence | np.ndarray | torch.Tensor) or isinstance(values, str):
        raise EngineError(f"{where}: returned a {type(values).__name__}, not a list of numbers")
    if len(values) != asked:
        raise EngineError(
            f"{where}: returned {len(values)} values for {asked} completions: the first prompt "
            f"was {_which(0, kwargs)}"
        )
    for row, value in enumerate(values):
        try:
            finite = value is None or (math.isfinite(value) and abs(float(value)) <= _LARGEST)
        except OverflowError:
            finite = False
        except (TypeError, ValueError) as error:
            what = f"returned {printable(repr(value))[:_PROMPT_CHARACTERS]} for rollout {row}"
            raise EngineError(f"{where}: {what} of {_which(row, kwargs)}: no number") from error
        if not finite:
            got = printable(repr(value))[:_PROMPT_CHARACTERS]
            raise DivergenceError(
                f"{where}: rollout {row} of {_which(row, kwargs)} got {got}: rewards are finite "
                f"numbers up to {_LARGEST:.1e}, the most that TRL's single precision holds"
            )
    return list(values)


def _where(name: str, kwargs: dict[str, Any]) -> str:
    return f"step {kwargs['trainer_state'].global_step + 1}: reward {name}"


def _which(row: int, kwargs: dict[str, Any]) -> str:
    """The prompt of a rollout: by example id if the dataset has one, and how it begins.

    Prompts may hold personal data, so no more than a line of one is shown; a prompt of token ids
    is known by its example alone.
    """
    ids, prompts = kwargs.get("example_id"), kwargs.get("prompts")
    known = f"row {row}" if ids is None else f"example {printable(str(ids[row]))}"
    prompt = prompts[row] if prompts is not None else ""
    if isinstance(prompt, list) and prompt and isinstance(prompt[-1], dict):
        prompt = prompt[-1].get("content")
    if not isinstance(prompt, str) or not prompt.strip():
        return known
    return f"{known} ({printable(' '.join(prompt.split()))[:_PROMPT_CHARACTERS]!r})"


def refuse_broken_models(trainer: GrpoTrainer, rewards_NK: torch.Tensor) -> None:
    """The same for reward models, which TRL runs itself.

    Raises:
        DivergenceError: A reward model gave NaN or infinity.
    """
    for k, (reward, name) in enumerate(
        zip(trainer.reward_funcs, trainer.reward_func_names, strict=True)
    ):
        if isinstance(reward, torch.nn.Module) and not torch.isfinite(rewards_NK[:, k]).all():
            step = trainer.state.global_step + 1
            raise DivergenceError(f"step {step}: reward {name}: the model gave NaN or infinity")


def refuse_empty_prompts(prompts: Sequence[Any]) -> None:
    """A completion needs a token to follow.

    Raises:
        DataError: A prompt is None or empty, as text, as a conversation or as token ids.
    """
    for row, prompt in enumerate(prompts):
        if prompt is None or (isinstance(prompt, Sized) and len(prompt) == 0):
            raise DataError(
                f"prompt: row {row} of the generation is empty: drop such rows from the dataset"
            )


def refuse_what_cannot_work(
    trainer: GrpoTrainer, settings: RuleSettings, names: Sequence[str]
) -> None:
    """Settings that only the built trainer knows.

    Args:
        trainer: Built by TRL.
        settings: Of the rule.
        names: The rewards that the rule weighs.

    Raises:
        ConfigError: Two rewards have one name, or others than the rule's; no weight is trained;
            or `popo_split` has no two independent micro-batches.
        DataError: There are fewer prompts than one generation takes.
        EngineError: The rule needs each reward's gradient, and the engine gives none.
    """
    if tuple(names) != tuple(trainer.reward_func_names):
        raise ConfigError(
            f"rule: weighs {', '.join(names)}, the rewards are "
            f"{', '.join(trainer.reward_func_names)}: give both in one order"
        )
    if len(set(names)) < len(names):
        raise ConfigError(f"reward_funcs: {names}: names must differ, for metrics and weights")
    if not any(parameter.requires_grad for parameter in trainer.model.parameters()):
        raise ConfigError(
            "model: none of its weights is trained: load an adapter with is_trainable=True, or "
            "let some parameters require a gradient"
        )
    _refuse_too_few_prompts(trainer)
    if processes.is_sharded(trainer) and trainer.model.config.get_text_config().tie_word_embeddings:
        # Seen with transformers 5.23 and plain TRL: logits are not those of the saved weights.
        raise EngineError(
            "FSDP2 with tied embeddings: after an update the model no longer computes with the "
            "weights that it saves: untie them (tie_word_embeddings=False), or use DDP"
        )
    if not settings.needs_gradients:
        return
    if settings.needs_unbiased:
        _refuse_dependent_blocks(trainer)
    if trainer.is_deepspeed_enabled:
        raise EngineError(
            f"rule {settings.rule}: DeepSpeed runs the backward pass itself, for one loss, and "
            "keeps no gradient apart: use FSDP2, or rule popo_light, which needs no gradient"
        )
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    if plugin is not None and getattr(plugin, "fsdp_version", 1) == 1:
        raise EngineError(
            f"rule {settings.rule}: FSDP version 1 melts parameters together: set fsdp_version "
            "to 2, or use rule popo_light, which needs no gradient"
        )


def _refuse_too_few_prompts(trainer: GrpoTrainer) -> None:
    needed = trainer.args.generation_batch_size // trainer.num_generations
    prompts = trainer.train_dataset
    if isinstance(prompts, Sized) and len(prompts) < needed:
        raise DataError(
            f"train_dataset: {len(prompts)} prompts, and a generation takes {needed}: TRL would "
            "train no step: lower per_device_train_batch_size or gradient_accumulation_steps"
        )


def _refuse_dependent_blocks(trainer: GrpoTrainer) -> None:
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


def refuse_other_advantages(ours_B: torch.Tensor, theirs_B: torch.Tensor) -> None:
    """TRL's advantages under the same weights must be ours.

    Raises:
        EngineError: They are not, so POPO would optimise something else than TRL.
    """
    if not torch.allclose(ours_B, theirs_B, rtol=1e-5, atol=1e-6):
        raise EngineError(
            "this release of TRL computes other advantages than PopoTrainer expects: "
            "install the release that Taiji pins"
        )
