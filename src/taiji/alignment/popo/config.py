"""The settings of PopoTrainer: TRL's GRPOConfig and those of the rule for the weights."""

import logging
from dataclasses import dataclass, field, fields, make_dataclass
from typing import get_type_hints

import torch
from trl import GRPOConfig

from taiji.errors import ConfigError
from taiji.rule_settings import RuleSettings, argument, described, settings_from

logger = logging.getLogger(__name__)

_HINTS, _HELP = get_type_hints(RuleSettings), described()
_RuleFields = make_dataclass(
    "_RuleFields",
    [
        (
            argument(f.name),
            _HINTS[f.name],
            field(default=f.default, metadata={"help": _HELP[f.name]}),
        )
        for f in fields(RuleSettings)
    ],
)


@dataclass
class PopoConfig(GRPOConfig, _RuleFields):  # type: ignore[misc, valid-type]  # TRL has no types
    """GRPOConfig with a rule for the reward weights.

    Fields of the rule are those of `RuleSettings`, most with the prefix `weight_`.
    `reward_weights` are the weights to start from (uniform if missing); with rule `fixed` they
    are TRL's own. TRL's `multi_objective_aggregation` decides what the weights mix: rewards
    (`sum_then_normalize`, Eq. 9) or advantages (`normalize_then_sum`); the latter with rule
    `fixed` is GDPO. Three defaults are not TRL's: Eq. 8 is the mean over each completion and its
    KL carries no importance ratio; mixed precision and activation checkpointing, which TRL turns
    on everywhere, stay off on a CPU unless asked for: there they cost time and gain nothing.

    Raises:
        ConfigError: A value is out of range, or the rule cannot work with another setting.
    """

    loss_type: str = field(
        default="grpo",
        metadata={"help": "Eq. 8: `grpo`, the mean over each completion. TRL's own is `dapo`."},
    )
    use_bias_correction_kl: bool = field(
        default=False,
        metadata={
            "help": "Multiply the KL term by the importance ratio, as TRL does and Eq. 8 not."
        },
    )
    share_prompts: bool = field(
        default=True,
        metadata={
            "help": "Compute each prompt once for all its completions; equal up to rounding."
        },
    )
    popo_own_draws: bool = field(
        default=False,
        metadata={
            "help": "Each rollout draws from a stream of its own, so that they are the same in one "
            "process and in many; where nothing but the temperature shapes them."
        },
    )
    popo_keep_micro_batches: bool = field(
        default=False,
        metadata={
            "help": "Keep each micro-batch's K gradients instead of their sums. Where a "
            "micro-batch is one group, the update under Eq. 9 then needs no pass of its own."
        },
    )
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

    def rule_settings(self) -> RuleSettings:
        """The rule for the weights, apart from everything else.

        Raises:
            ConfigError: A value is out of range.
        """
        return settings_from(self)

    def _check(self) -> None:
        settings = self.rule_settings()
        weights = self.reward_weights
        multiplies = self.rule not in ("fixed", "tchebycheff")
        if multiplies and weights is not None and not min(weights) > 0:
            raise ConfigError(
                f"reward_weights: {weights}: a weight of 0 can never recover under Eq. 5: "
                "start above 0, or leave the reward out"
            )
        if self.rule != "fixed" and 0 < self.max_steps <= settings.warmup_steps:
            raise ConfigError(
                f"weight_warmup_steps: {settings.warmup_steps}: the weights would never move in "
                f"{self.max_steps} steps: choose fewer, or rule fixed"
            )
        reentrant = (self.gradient_checkpointing_kwargs or {}).get("use_reentrant")
        if settings.needs_gradients and self.gradient_checkpointing and reentrant:
            raise ConfigError(
                "gradient_checkpointing_kwargs: use_reentrant=True cannot be differentiated once "
                "for each reward: set it to False"
            )
        self._warn(settings)

    def _warn(self, settings: RuleSettings) -> None:
        """Say which settings do nothing, or not what their name promises."""
        on_advantages = self.multi_objective_aggregation == "normalize_then_sum"
        if unused := settings.unused():
            logger.warning("rule %s: without effect: %s", self.rule, ", ".join(unused))
        if on_advantages and self.scale_rewards != "group":
            logger.warning(
                "scale_rewards=%s: without effect under multi_objective_aggregation="
                "normalize_then_sum, which scales each reward within its group",
                self.scale_rewards,
            )
        if self.popo_keep_micro_batches and not settings.needs_gradients:
            logger.warning("rule %s: without effect: popo_keep_micro_batches", self.rule)
        if self.rule in ("mgda", "cagrad") and not on_advantages:
            logger.warning(
                "rule %s: its weights are meant for gradients, but mix rewards: set "
                "multi_objective_aggregation=normalize_then_sum",
                self.rule,
            )
