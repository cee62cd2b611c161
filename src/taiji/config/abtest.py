"""Settings of the simulated A/B test: a market, a response to advertisements, and buckets of users.

Everything that it prints is called a simulation; docs/abtest.md says what it may and may not show.
"""

from pydantic import Field

from taiji.config.section import Count, Name, Section


class AbtestSection(Section):
    """What a live test would need, replayed over the logged visits of the test window."""

    enabled: bool = Field(
        False, description="run with all other stages; else only as `taiji abtest` (extra `abtest`)"
    )
    requests: Count = Field(20_000, description="requests, spread evenly over the logged visits")
    candidates: int = Field(
        20, ge=2, le=200, description="advertisements that compete for each request"
    )
    worlds: Count = Field(
        5, description="draws of bids, budgets and conversions; the counterfactual averages them"
    )
    warmup_weeks: Count = Field(
        1, description="first weeks of the test window, served by the base model in all arms"
    )
    bucket_share: float = Field(
        0.1, gt=0, le=0.2, description="share of users in each of the five buckets (paper: 10 %)"
    )
    salt: Name = Field("abtest-1", description="another salt is another split of users")
    persona: float = Field(
        1.0, ge=0, description="strength of what users like beyond the features; 0 = none"
    )
    budget: float | None = Field(
        1.5,
        gt=0,
        description="weekly budgets over what the truth spends without any; null = no budgets",
    )
    cost_control: bool = Field(
        True, description="steer what a conversion costs to its target, in each arm by itself"
    )
