"""Settings of stage 3: rewards, their weights, and the training that they steer."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from taiji.config.section import Count, Named, PathText, Section
from taiji.rule_settings import RuleSettings

LossType = Literal["grpo", "dapo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"]
"""The losses of TRL's GRPOTrainer."""


class CustomRewardSection(Section):
    """A reward of the user's own: code that the recipe names, imported and called."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]{0,31}$", description="as weights, columns and charts call it"
    )
    path: str = Field(
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
        description="package.module:function",
    )


class RewardsSection(Section):
    """Which rewards the policy is paid, and how an answer is taken for an item."""

    semantic: bool = Field(True, description="Eq. 3")
    preference: bool = Field(True, description="Eq. 4")
    format: Literal["off", "binary", "graded"] = Field(
        "off", description="all four parts of the form, or a quarter for each"
    )
    custom: tuple[CustomRewardSection, ...] = Field(
        (), strict=False, description="rewards of your own: functions that are imported"
    )
    scores: PathText | None = Field(
        None, description="Parquet or CSV of user_id, item_id, score[, as_of] instead of the ranker"
    )
    scores_missing: Literal["floor", "item_mean", "refuse"] = Field(
        "floor", description="what a pair that the scores lack gets"
    )
    term_overlap: float | None = Field(
        0.6, gt=0, le=1, description="title words in common that name an item; null = not enough"
    )
    cosine_floor: float = Field(
        0.5, ge=-1, le=1, description="an answer further from every item names none"
    )
    soft_items: Count = Field(1, description="m nearest items that an answer stands for")
    soft_temperature: float = Field(0.02, gt=0, description="tau of their weights")
    answers: Literal["best", "mean", "ndcg"] = Field(
        "best",
        description="what a list of several answers earns: the best of them, their mean, or their "
        "rewards discounted by rank over those of a perfect list",
    )
    gate: tuple[float, float] | None = Field(
        None, strict=False, description="cosines at which the preference starts and is paid whole"
    )

    def named(self) -> Iterator[Named]:
        """The table of scores, and rewards of the user's own."""
        if self.scores is not None:
            yield Named("file", "scores", self.scores)
        for number, reward in enumerate(self.custom):
            yield Named("code", f"custom.{number}.path", reward.path)

    @property
    def names(self) -> tuple[str, ...]:
        """The rewards that are paid, in their order."""
        paid = {
            "semantic": self.semantic,
            "preference": self.preference,
            "format": self.format != "off",
        }
        return (
            *(name for name, is_paid in paid.items() if is_paid),
            *(c.name for c in self.custom),
        )

    @model_validator(mode="after")
    def _work_together(self) -> "RewardsSection":
        taken = ["semantic", "preference", "format", *(custom.name for custom in self.custom)]
        if len(set(taken)) < len(taken):
            raise ValueError("custom rewards need names of their own")
        if not self.names:
            raise ValueError("at least one reward must be paid")
        if self.gate is not None and not self.gate[0] < self.gate[1]:
            raise ValueError("gate: the lower cosine stands first")
        if self.soft_items > 1 and self.gate is None:
            raise ValueError(
                "soft_items above 1 pays idle talk: set gate too, such as [0.5, 0.75] for MiniLM"
            )
        return self


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
