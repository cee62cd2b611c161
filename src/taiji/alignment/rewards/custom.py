"""Rewards of the user's own: functions that the recipe names by import path."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taiji.alignment.rewards.reward import Rollout
from taiji.config import CustomRewardSection
from taiji.errors import ConfigError
from taiji.own_code import import_own

CustomReward = Callable[..., Sequence[float | None]]
"""A reward function as TRL calls it: keyword arguments in, one number or None a completion."""


@dataclass(frozen=True)
class OwnReward:
    """A function of the user's own: any finite numbers, None where it has nothing to say.

    Attributes:
        function: Beyond TRL's keyword arguments it is given `answers` and `item_ids`, what each
            completion answered and which item that was taken for (None for none).
    """

    function: CustomReward

    def __call__(self, rollouts: Sequence[Rollout], **call: Any) -> list[float | None]:
        """See `Reward`."""
        values = self.function(
            answers=[rollout.answer for rollout in rollouts],
            item_ids=[rollout.grounded_item_id for rollout in rollouts],
            **call,
        )
        return [None if value is None else float(value) for value in values]


def import_rewards(sections: Sequence[CustomRewardSection]) -> Mapping[str, CustomReward]:
    """Import each function; importing runs the module, as any import does.

    Raises:
        ConfigError: A module or a function cannot be imported; names the recipe's key.
    """
    return {
        section.name: _import(section.path, f"align.rewards.custom[{n}].path")
        for n, section in enumerate(sections)
    }


def _import(path: str, key: str) -> CustomReward:
    function = import_own(path, key)
    if not callable(function):
        raise ConfigError(
            f"{key}: {path}: holds a {type(function).__name__}: name a function of the module"
        )
    if inspect.iscoroutinefunction(function):
        raise ConfigError(f"{key}: {path}: is async: name a plain function")
    reward: CustomReward = function
    return reward
