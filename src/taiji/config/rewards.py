"""Settings of the rewards: what the policy is paid, and how an answer is taken for an item."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from taiji.config.section import Count, Named, PathText, Section

_NAME = r"^[a-z][a-z0-9_]{0,31}$"


class CustomRewardSection(Section):
    """A reward of the user's own: code that the recipe names, imported and called."""

    name: str = Field(pattern=_NAME, description="as weights, columns and charts call it")
    path: str = Field(
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
        description="package.module:function",
    )


class CleanRewardSection(Section):
    """Nothing may stand outside chain and answer: r_clean of RPORec."""

    kind: Literal["clean"]
    name: str = Field("clean", pattern=_NAME, description="as weights, columns and charts call it")
    gated: bool = Field(True, description="pay nothing unless chain and answer have their tags")


class HeadRewardSection(Section):
    """Where a trained head ranks the true item: r_ndcg of RPORec. Needs `head.enabled`."""

    kind: Literal["head"]
    name: str = Field(
        "head_ndcg", pattern=_NAME, description="as weights, columns and charts call it"
    )
    gated: bool = Field(True, description="pay nothing unless chain and answer have their tags")


class ValueRewardSection(Section):
    """What the answer's item is worth to whoever sells it: the GMV reward of OneLoc."""

    kind: Literal["value"]
    name: str = Field("value", pattern=_NAME, description="as weights, columns and charts call it")
    normaliser: Literal["minmax", "quantile", "winsorised", "log", "rank"] = Field(
        "rank", description="of pCTCVR x price, fitted on the pool of `simulate`"
    )


class DistanceRewardSection(Section):
    """How near the answer's item is to where the user usually goes: the place reward of OneLoc.

    Needs `latitude` and `longitude` of items.
    """

    kind: Literal["distance"]
    name: str = Field(
        "distance", pattern=_NAME, description="as weights, columns and charts call it"
    )


MoreReward = Annotated[
    CleanRewardSection | HeadRewardSection | ValueRewardSection | DistanceRewardSection,
    Field(discriminator="kind"),
]
"""Rewards of related systems (docs/related.md), chosen by `kind`."""


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
    more: tuple[MoreReward, ...] = Field(
        (), strict=False, description="rewards of related systems, each by its kind"
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
            *(custom.name for custom in self.custom),
            *(reward.name for reward in self.more),
        )

    @model_validator(mode="after")
    def _work_together(self) -> "RewardsSection":
        own = [*(custom.name for custom in self.custom), *(reward.name for reward in self.more)]
        taken = ["semantic", "preference", "format", *own]
        if len(set(taken)) < len(taken):
            raise ValueError("custom rewards, and those of `more`, need names of their own")
        if not self.names:
            raise ValueError("at least one reward must be paid")
        if self.gate is not None and not self.gate[0] < self.gate[1]:
            raise ValueError("gate: the lower cosine stands first")
        if self.soft_items > 1 and self.gate is None:
            raise ValueError(
                "soft_items above 1 pays idle talk: set gate too, such as [0.5, 0.75] for MiniLM"
            )
        return self
