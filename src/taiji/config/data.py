"""Settings of stage 1: which log, how its time is split, and what a prompt may see."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from taiji.config.section import Count, Day, Section, Share
from taiji.config.sources import CompleteJourneySource, Source
from taiji.config.text import TextSection


class DateWindows(Section):
    """Windows of the log by date: each begins at midnight and ends where the next begins."""

    kind: Literal["dates"] = "dates"
    history: Day = Field(strict=False, description="only looked back on")
    reward: Day = Field(strict=False, description="SFT targets; the reward ranker learns")
    rl: Day = Field(strict=False, description="alignment targets")
    ranker: Day = Field(strict=False, description="the ranking model learns with features")
    test: Day = Field(strict=False, description="everything is judged")
    end: Day = Field(strict=False, description="the day after the last")

    @model_validator(mode="after")
    def _in_order(self) -> "DateWindows":
        starts = (self.history, self.reward, self.rl, self.ranker, self.test, self.end)
        if any(first >= then for first, then in pairwise(starts)):
            raise ValueError("history < reward < rl < ranker < test < end must hold")
        return self


class ShareWindows(Section):
    """Windows of the log as shares of its interactions, rounded to whole days.

    A log of under 20 days is divided at whole hours.
    """

    kind: Literal["shares"] = "shares"
    history: Share = Field(0.15, gt=0, description="only looked back on")
    reward: Share = Field(0.45, gt=0, description="SFT targets; the reward ranker learns")
    rl: Share = Field(0.11, gt=0, description="alignment targets")
    ranker: Share = Field(0.15, gt=0, description="the ranking model learns with features")
    test: Share = Field(0.14, gt=0, description="everything is judged")

    @model_validator(mode="after")
    def _whole(self) -> "ShareWindows":
        total = self.history + self.reward + self.rl + self.ranker + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the five shares must sum to 1, not {total:g}")
        return self


class SplitsSection(Section):
    """When: five windows that follow one another, so that no stage trains on what judges it."""

    timezone: str = Field(
        "UTC",
        description="whose midnights and evenings count; not given: what the source says of itself",
    )
    period_days: Count = Field(7, description="at most one target of a user in so many days")
    windows: DateWindows | ShareWindows = Field(
        ShareWindows(),
        discriminator="kind",
        description="five windows of the log, by dates or by shares of its interactions; not "
        "given: those of the source, else shares",
    )

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"no time zone {name!r}: use a name such as Europe/Berlin") from error
        return name


class DataSection(Section):
    """Stage 1: which log, how much of it, and what a prompt may see."""

    source: Source = Field(
        CompleteJourneySource(), description="which log, by the name of its layout"
    )
    text: TextSection = TextSection()
    history_items: Count = Field(50, description="most recent interactions in a prompt (paper: 50)")
    history_days: Count | None = Field(
        None, description="what lies further back than this is not told; null = all of the log"
    )
    neighbour_items: Count = Field(
        100, description="borrowed interactions of the neighbour (paper: 100)"
    )
    target: Literal["any", "novel"] = Field(
        "any",
        description="SFT and RL targets: any line of the next basket, or a title new to the user",
    )
    target_kinds: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z_]*$")], ...] | None = Field(
        None,
        strict=False,
        min_length=1,
        description="kinds of interaction that can be foreseen and that make an item popular; "
        "null = purchases, or else the strongest kind there is",
    )
    target_items: Literal["one", "basket"] = Field(
        "one", description="what counts as foreseen: the target alone, or all of its basket"
    )
    splits: SplitsSection = SplitsSection()
    min_history: Count = Field(10, description="fewer interactions before it make no target")
    long_tail: Count = Field(100, description="fewer interactions before it mark an example")
    num_sft: Count = Field(1000, description="examples for distillation and SFT")
    num_rl: Count = Field(200, description="examples for alignment")
    num_test: Count = Field(500, description="examples that judge the language model")
    num_rank_users: Count = Field(500, description="users whose text becomes ranking features")
    refresh: Literal["window", "week", "day", "visit"] = Field(
        "window",
        description="when text of the ranking users is asked for: at the start of each window, of "
        "its weeks or days, or before each visit in which something was shown",
    )
    offer_categories: int = Field(
        0,
        ge=0,
        le=100,
        description="categories that prompts say are on offer: those shown most, to anybody, in "
        "the seven days before; 0 = prompts say nothing of it",
    )
    exposure_share: Share = Field(
        0.25, gt=0, description="share of exposures kept, by a hash that ignores labels"
    )
    goal: Literal["conversion", "click"] | None = Field(
        None,
        description="what ranking models predict and the preference pays; null = conversions where "
        "some are known, else clicks",
    )
    sampled_negatives: Count | None = Field(
        None,
        description="for a log without exposures: items that stand beside each target as if shown "
        "and not taken, drawn from all that was taken before; null = none",
    )
    holdout_share: Share = Field(
        0.1, description="users that SFT, RL and the reward never see, by hash"
    )

    @model_validator(mode="before")
    @classmethod
    def _as_the_source_has_it(cls, given: Any) -> Any:
        """What is usual for the source stands wherever the recipe says nothing."""
        if not isinstance(given, Mapping):
            return given
        try:
            source = _SOURCE.validate_python(given.get("source", CompleteJourneySource()))
        except ValidationError:
            return given  # to be told with its place when the field itself is read
        return _completed(given, source.usual())


_SOURCE: TypeAdapter[Source] = TypeAdapter(Source)


def _completed(given: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, with what it leaves out from `usual`; another kind is another thing altogether."""
    whole = dict(given)
    for name, value in usual.items():
        said = whole.get(name)
        if isinstance(said, Section):
            said = {key: getattr(said, key) for key in said.model_fields_set}
        if name not in whole:
            whole[name] = value
        elif isinstance(said, Mapping) and isinstance(value, Mapping):
            same = said.get("kind", value.get("kind")) == value.get("kind")
            whole[name] = _completed(said, value) if same else said
    return whole
