"""Rewards of the user's own: functions that the recipe names by import path."""

import inspect
from collections.abc import Callable, Mapping, Sequence

from taiji.config import CustomRewardSection
from taiji.errors import ConfigError
from taiji.own_code import import_own

CustomReward = Callable[..., Sequence[float | None]]
"""A reward function as TRL calls it: keyword arguments in, one number or None a completion."""


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
