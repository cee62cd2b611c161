"""Rewards of the user's own: functions that the recipe names by import path."""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence

from taiji.config import CustomRewardSection
from taiji.errors import ConfigError

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
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the module is the user's: it may fail in any way
        raise ConfigError(
            f"{key}: {module_name} cannot be imported: {type(error).__name__}: {error}: install "
            "the package, or put its folder on PYTHONPATH"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        found = "has no such name" if function is None else f"holds a {type(function).__name__}"
        raise ConfigError(f"{key}: {path}: {module_name} {found}: name a function of the module")
    if inspect.iscoroutinefunction(function):
        raise ConfigError(f"{key}: {path}: is async: name a plain function")
    reward: CustomReward = function
    return reward
