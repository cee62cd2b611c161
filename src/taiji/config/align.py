"""Settings of stage 3: the weights of the rewards, and the training that they steer."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from taiji.config.rewards import RewardsSection
from taiji.config.section import Count, Section
from taiji.rule_settings import RuleSettings

LossType = Literal["grpo", "dapo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"]
"""The losses of TRL's GRPOTrainer."""


class WeightsSection(Section, RuleSettings):
    """How the rewards are weighed, and how the weights move."""

    initial: dict[str, float] | None = Field(
        None,
        description="where the weights start, by reward; null = uniform (as the paper's). Under "
        "`tchebycheff` the trade-off that is asked for",
    )
    act_on: Literal["rewards", "advantages"] = Field(
        "rewards", description="mix rewards (Eq. 9), or each reward's own advantages (as in GDPO)"
    )

    @property
    def scheme(self) -> str:
        """The rule and what it acts on, in a word; fixed weights of advantages are `gdpo`."""
        if self.act_on == "rewards":
            return self.rule
        return "gdpo" if self.rule == "fixed" else f"{self.rule} on advantages"

    @field_validator("initial")
    @classmethod
    def _on_the_simplex(cls, initial: dict[str, float] | None) -> dict[str, float] | None:
        if initial is not None:
            weights = initial.values()
            if not weights or min(weights) <= 0 or abs(sum(weights) - 1) > 1e-6:
                raise ValueError("needs positive weights that sum to 1")
        return initial


class AlignSection(Section):
    """Stage 3: GRPO (Eq. 8) on rewards mixed (Eq. 9) with weights of Eq. 5-6 or Eq. 7."""

    weights: WeightsSection = WeightsSection()
    rewards: RewardsSection = RewardsSection()
    steps: Count = Field(100, description="of the policy (paper: one epoch of 100,000 prompts)")
    prompts_per_step: Count = Field(
        8, description="prompts of one step (paper: a batch of 16 on each of 24 GPUs)"
    )
    num_generations: int = Field(4, ge=2, description="rollouts per prompt (paper: G = 4)")
    learning_rate: float = Field(1e-5, gt=0, description="at its peak (paper: 2e-5)")
    loss_type: LossType = Field(
        "grpo", description="how Eq. 8 weighs tokens; grpo is the paper's mean over each completion"
    )
    policy_loss: Literal["clipped", "gbpo"] = Field(
        "clipped", description="how a token's ratio is bounded: by Eq. 8's clip, or as in GBPO"
    )
    beta: float = Field(0.0, ge=0, description="KL weight of Eq. 8 (ours; the paper gives none)")
    temperature: float = Field(1.0, gt=0, le=2, description="of the rollouts")
    trainable_layers: Count | None = Field(
        None, description="tune only the last n blocks; null = all weights"
    )
    checkpoint_steps: Count = Field(50, description="a killed run resumes from the last checkpoint")
    trainer: dict[str, Any] = Field(
        default_factory=dict, description="further fields of TRL's GRPOConfig"
    )

    @model_validator(mode="after")
    def _gbpo_needs_no_gradients(self) -> "AlignSection":
        if self.policy_loss == "gbpo" and self.weights.needs_gradients:
            raise ValueError(
                f"policy_loss gbpo: weights.rule {self.weights.rule} weighs each reward's own "
                "gradient, which a factor by the sign of the mixed advantage falsifies: use "
                "popo_light, tchebycheff or fixed"
            )
        return self

    @model_validator(mode="after")
    def _popo_split_has_two_halves(self) -> "AlignSection":
        if self.weights.rule == "popo_split" and self.prompts_per_step < 2:
            raise ValueError(
                "weights.rule popo_split: compares micro-batches that share no prompt: "
                "prompts_per_step must be 2 or more"
            )
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> "AlignSection":
        names, weights = self.rewards.names, self.weights
        initial = weights.initial or dict.fromkeys(names, 1 / len(names))
        if set(initial) != set(names):
            raise ValueError(f"weights.initial needs one weight for each of {', '.join(names)}")
        for setting in ("ideal", "worst"):
            unknown = sorted(set(getattr(weights, setting) or {}) - set(names))
            if unknown:
                raise ValueError(
                    f"weights.{setting}: {', '.join(unknown)}: no such reward: there are "
                    f"{', '.join(names)}"
                )
        if weights.floor * len(names) >= 1 or weights.floor > min(initial.values()):
            raise ValueError(
                f"weights.floor must be below 1 / {len(names)} and no initial weight below it"
            )
        if weights.rule != "fixed" and weights.warmup_steps >= self.steps:
            raise ValueError("weights.warmup_steps must be fewer than steps, or no weight moves")
        return self
