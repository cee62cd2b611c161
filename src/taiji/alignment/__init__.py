"""Stage 3: two rewards, adaptive weights (POPO), and GRPO.

What is named here stands on its own: no recommender is needed to use it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taiji.alignment.popo.config import PopoConfig
    from taiji.alignment.popo.rule_settings import RuleSettings
    from taiji.alignment.popo.trainer import PopoTrainer
    from taiji.alignment.popo.weight_rule import WeightRule

__all__ = ["PopoConfig", "PopoTrainer", "RuleSettings", "WeightRule"]

_FILES = {
    "PopoConfig": "config",
    "PopoTrainer": "trainer",
    "RuleSettings": "rule_settings",
    "WeightRule": "weight_rule",
}


def __getattr__(name: str) -> Any:
    """Import TRL only for those who ask for the trainer: the equations need NumPy alone."""
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"taiji.alignment.popo.{_FILES[name]}"), name)
