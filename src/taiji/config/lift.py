"""Settings of the ceiling: which texts an oracle writes, to see what any text could be worth."""

from typing import Literal

from pydantic import Field, field_validator

from taiji.config.section import Count, Section, Share


class MatchSection(Section):
    """What the arm `match` compares: categories that a text names, and its meaning."""

    nearest: int = Field(
        0,
        ge=0,
        le=100,
        description="categories that a text without any name is taken to mean, by the embedding "
        "of its sentences; 0 = none",
    )


class CeilingSection(Section):
    """`taiji ceiling`: names of categories, right as often as they are told to be."""

    refresh: tuple[Literal["window", "week", "visit"], ...] = Field(
        ("window", "visit"),
        strict=False,
        min_length=1,
        description="when the oracle writes: once a window, at each week, before each visit",
    )
    names: tuple[Count, ...] = Field(
        (1, 5, 20), strict=False, min_length=1, description="categories that a text names"
    )
    accuracy: tuple[Share, ...] = Field(
        (0.0, 0.05, 0.1, 0.25, 0.5, 1.0),
        strict=False,
        min_length=2,
        description="chance of a name to be right; must hold 0, the null of the method, and 1",
    )
    among: tuple[Literal["all", "offer"], ...] = Field(
        ("all", "offer"),
        strict=False,
        min_length=1,
        description="categories that are named: all that are bought, or those on offer",
    )
    seeds: Count = Field(2, description="ranking models, each with names of its own")
    resamples: int = Field(200, ge=50, description="draws of users for the intervals")

    @field_validator("accuracy")
    @classmethod
    def _from_nothing_to_all(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if not {0.0, 1.0} <= set(shares) or list(shares) != sorted(set(shares)):
            raise ValueError("rises from 0 to 1, both among them, none twice")
        return shares
