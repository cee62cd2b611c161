"""Stage 3: two rewards, adaptive weights (POPO), and GRPO.

`PopoTrainer`, `PopoConfig`, `WeightRule` and `RuleSettings` stand on their own: no recommender is
needed to use them, and the last two need no TRL.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taiji.alignment.popo.config import PopoConfig
    from taiji.alignment.popo.trainer import PopoTrainer
    from taiji.alignment.popo.weight_rule import WeightRule
    from taiji.rule_settings import RuleSettings

__all__ = ["PopoConfig", "PopoTrainer", "RuleSettings", "WeightRule"]

_PLACES = {
    "PopoConfig": "taiji.alignment.popo.config",
    "PopoTrainer": "taiji.alignment.popo.trainer",
    "RuleSettings": "taiji.rule_settings",
    "WeightRule": "taiji.alignment.popo.weight_rule",
}


def __getattr__(name: str) -> Any:
    """Import TRL only for those who ask for the trainer: the equations need NumPy alone."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
