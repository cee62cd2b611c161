"""The settings of PopoTrainer: TRL's GRPOConfig and five more."""

from dataclasses import dataclass, field
from typing import get_args

import torch
from trl import GRPOConfig

from taiji.alignment.popo_state import Rule
from taiji.errors import ConfigError


@dataclass
class PopoConfig(GRPOConfig):  # type: ignore[misc]  # TRL ships no types
    """GRPOConfig with a rule for the reward weights.

    `reward_weights` are the weights to start from (uniform if missing); with rule `fixed` they
    are TRL's own. Mixed precision and gradient checkpointing, which TRL turns on everywhere,
    stay off on a CPU unless asked for: there they cost time and gain nothing.

    Raises:
        ConfigError: A value is out of range, or the rule cannot work with another setting.
    """

    rule: str = field(
        default="popo",
        metadata={"help": "popo (Eq. 5-6), popo_light (Eq. 7), or fixed."},
    )
    eta: float = field(default=0.1, metadata={"help": "eta of Eq. 5. The paper gives none."})
    mu: float = field(default=1.0, metadata={"help": "mu of Eq. 5. The paper gives none."})
    light_epsilon: float = field(default=1e-4, metadata={"help": "eps of Eq. 7."})
    bf16: bool | None = field(
        default=None,
        metadata={"help": "bfloat16 mixed precision. Default: on unless fp16, and off on a CPU."},
    )
    activation_checkpointing: bool | None = field(
        default=None,
        metadata={"help": "Trade compute for memory. Default: on, except on a CPU."},
    )
    gradient_checkpointing: bool | None = field(
        default=None, metadata={"help": "The older name of activation_checkpointing."}
    )

    def __post_init__(self) -> None:
        """Resolve what depends on the hardware, then check."""
        on_cpu = self.use_cpu or not torch.accelerator.is_available()
        self._choose_checkpointing(default=not on_cpu)
        if on_cpu:
            self.bf16 = bool(self.bf16)
            self.dataloader_pin_memory = False  # would only warn
        super().__post_init__()
        self._check()

    def _choose_checkpointing(self, *, default: bool) -> None:
        """Set both names: which of them transformers reads, and warns of, depends on its age."""
        chosen = self.activation_checkpointing
        chosen = self.gradient_checkpointing if chosen is None else chosen
        chosen = default if chosen is None else chosen
        self.activation_checkpointing = self.gradient_checkpointing = chosen

    def _check(self) -> None:
        if self.rule not in get_args(Rule):
            raise ConfigError(f"rule: {self.rule!r}: choose one of {', '.join(get_args(Rule))}")
        for name in ("eta", "mu", "light_epsilon"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ConfigError(f"{name}: {value}: must be a finite number above 0")
        weights = self.reward_weights
        if self.rule != "fixed" and weights is not None and not min(weights) > 0:
            raise ConfigError(
                f"reward_weights: {weights}: a weight of 0 can never recover under Eq. 5: "
                "start above 0, or leave the reward out"
            )
        reentrant = (self.gradient_checkpointing_kwargs or {}).get("use_reentrant")
        if self.rule == "popo" and self.gradient_checkpointing and reentrant:
            raise ConfigError(
                "gradient_checkpointing_kwargs: use_reentrant=True cannot be differentiated once "
                "for each reward: set it to False"
            )
