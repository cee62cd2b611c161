"""Stage 3: two rewards, adaptive weights (POPO), and GRPO.

`PopoTrainer` and `PopoConfig` stand on their own: no recommender is needed to use them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taiji.alignment.popo.config import PopoConfig
    from taiji.alignment.popo.trainer import PopoTrainer

__all__ = ["PopoConfig", "PopoTrainer"]


def __getattr__(name: str) -> Any:
    """Import TRL only for those who ask for the trainer: the equations need NumPy alone."""
    if name == "PopoConfig":
        from taiji.alignment.popo.config import PopoConfig

        return PopoConfig
    if name == "PopoTrainer":
        from taiji.alignment.popo.trainer import PopoTrainer

        return PopoTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
