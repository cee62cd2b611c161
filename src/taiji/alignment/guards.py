"""What PopoTrainer refuses: rewards that are not finite, settings that cannot work.

TRL reads None as "this reward does not apply to this rollout" and turns it into NaN, so a real
NaN would pass for a missing value and quietly leave the mix. The guard looks before TRL does.
"""

import functools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from trl.trainer.utils import is_async_callable

from taiji.errors import ConfigError, DivergenceError, EngineError

logger = logging.getLogger(__name__)


def guard_rewards(rewards: list[Any], names: Sequence[str]) -> None:
    """Put a guard around each reward function; reward models stay as they are."""
    for k, (reward, name) in enumerate(zip(rewards, names, strict=True)):
        if not isinstance(reward, torch.nn.Module):
            rewards[k] = guarded(reward, name)


def guarded(reward: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The same reward function, refusing to return anything but finite numbers and None.

    Raises:
        DivergenceError: On a call that yields NaN or infinity; names step and reward.
    """
    if is_async_callable(reward):

        @functools.wraps(reward, updated=())
        async def checked_async(*args: Any, **kwargs: Any) -> Any:
            return _checked(await reward(*args, **kwargs), name, kwargs)

        return checked_async

    @functools.wraps(reward, updated=())
    def checked(*args: Any, **kwargs: Any) -> Any:
        return _checked(reward(*args, **kwargs), name, kwargs)

    return checked


def _checked(values: Sequence[Any], name: str, kwargs: dict[str, Any]) -> Sequence[Any]:
    for row, value in enumerate(values):
        if value is not None and not math.isfinite(value):
            step = kwargs["trainer_state"].global_step + 1
            raise DivergenceError(f"step {step}: reward {name}: rollout {row} got {value}")
    return values


def refuse_broken_models(trainer: Any, rewards_NK: torch.Tensor) -> None:
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


def refuse_what_cannot_work(trainer: Any) -> None:
    """Settings that only the built trainer knows.

    Raises:
        ConfigError: There is no reward, or two have one name.
        EngineError: The rule needs gradients that no process holds in full.
    """
    names = trainer.reward_func_names
    if not names:
        raise ConfigError("reward_funcs: PopoTrainer needs at least one reward")
    if len(set(names)) < len(names):
        raise ConfigError(f"reward_funcs: {names}: names must differ, for metrics and weights")
    if len(names) == 1 and trainer.rule != "fixed":
        logger.warning("rule %s: with one reward its weight is always 1", trainer.rule)
    sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
    if trainer.rule == "popo" and (sharded or trainer.accelerator.num_processes > 1):
        raise EngineError(
            "rule popo: gradients of sharded or replicated models are not supported yet: "
            "run one process, or use rule popo_light, which needs none"
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
