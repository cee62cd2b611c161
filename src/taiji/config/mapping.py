"""The mapping of a table: which files, and which of their columns is which field.

How the sources of `data.source` put tables together is in `taiji.config.sources`; what a
described table becomes is in `taiji.data.tables.mapping`.
"""

import codecs
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from taiji.config.mapping_fields import (
    Categories,
    ExplodeSection,
    KindField,
    LikedField,
    Number,
    Only,
    OwnTopField,
    Price,
    Text,
    Time,
)
from taiji.config.section import Section

_SAMPLE = "id,name\n1,a b"


class RawTable(Section):
    """Files of one table, or a table that the engine knows by name."""

    files: str | None = Field(
        None, description="name or glob below the source's path, such as orders-*.csv"
    )
    table: str | None = Field(None, description="a table of the engine, such as lake.shop.orders")
    format: Literal["parquet", "csv", "jsonl"] | None = Field(
        None, description="null = by the ending of the files"
    )
    separator: str | None = Field(
        None, min_length=1, description="between columns of csv; null = tab for .tsv, else comma"
    )
    names: tuple[str, ...] | None = Field(
        None, strict=False, min_length=1, description="columns of a csv without a header"
    )
    quote: str = Field('"', max_length=1, description="empty: quotes are plain characters")
    escape: str | None = Field(
        None, min_length=1, max_length=1, description="makes the next sign plain, as a backslash"
    )
    encoding: str = Field("utf-8", description="of text files, such as latin-1 or gb18030")
    explode: ExplodeSection | None = Field(
        None, description="one row for each part of a column; null = rows as they are"
    )
    only: dict[str, Only] = Field(
        default_factory=dict,
        description="column -> words, or what they must be: other rows are left out, and counted",
    )

    @model_validator(mode="after")
    def _files_or_table(self) -> "RawTable":
        if (self.files is None) == (self.table is None):
            raise ValueError("needs one of files and table")
        return self

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str) -> str:
        try:
            decoder = codecs.getincrementaldecoder(name)(errors="surrogateescape")
            is_text = decoder.decode(_SAMPLE.encode(name), final=True) == _SAMPLE
        except (LookupError, UnicodeError, ValueError, TypeError, AssertionError):
            is_text = False
        if not is_text or codecs.lookup(name).name.endswith(("escape", "idna", "punycode")):
            raise ValueError("no such text encoding: utf-8, latin-1, cp1252, gb18030 …")
        return name

    @model_validator(mode="after")
    def _signs_differ(self) -> "RawTable":
        signs = [self.separator or ",", self.quote, self.escape or ""]
        told = [sign for sign in signs if sign]
        if len(set(told)) < len(told) or any(set(sign) & set("\r\n\0") for sign in told):
            raise ValueError("separator, quote and escape must differ, and be no line end")
        if not (self.quote + (self.escape or "")).isascii():
            raise ValueError("quote and escape must be ASCII")
        return self


class JoinTable(RawTable):
    """Another file that knows more of the same rows, such as the categories of items."""

    key: Text = Field(description="its column that names what a row is about")
    of: Text = Field(description="the column of the table itself that holds the same")
    columns: dict[str, str] = Field(
        min_length=1, description="name in the mapping -> column of this file"
    )
    several: Literal["first", "list"] = Field(
        "first", description="where several rows have one key: the first, or a list of them all"
    )

    @model_validator(mode="after")
    def _whole_rows(self) -> "JoinTable":
        if self.explode is not None or self.only:
            raise ValueError("a joined file takes neither explode nor only")
        return self


class JoinedTable(RawTable):
    """A table that may take columns of another file."""

    join: JoinTable | None = Field(
        None, description="columns that are kept in another file; null = none"
    )


class UsersTable(JoinedTable):
    """Who the users are. Optional: without it, users are whoever acts."""

    user_id: Text = Field(description="names a user; every table calls them alike")
    profile: dict[str, Text] = Field(
        default_factory=dict, description="label -> column, in the order in which prompts show them"
    )


class ItemsTable(JoinedTable):
    """What can be recommended."""

    item_id: Text = Field(description="names an item; every table calls it alike")
    title: Text = Field(description="what prompts and answers call it")
    categories: Categories | None = Field(
        None, description="the path of categories, the top level first"
    )
    brand: Text | None = Field(None, description="null = none is known")
    price: Price | None = Field(
        None, description="what the shop asks: the price of interactions that have none"
    )
    latitude: Number | None = Field(
        None, description="of where the item is, in degrees, north of the equator; null = nowhere"
    )
    longitude: Number | None = Field(None, description="in degrees, east of Greenwich")
    repeated: Literal["refuse", "first", "last", "most_frequent"] = Field(
        "refuse",
        description="an item in several rows, as among lines of orders: the row that names it, by "
        "place or by its title; refuse = a different row is a fault",
    )

    @model_validator(mode="after")
    def _whole_places(self) -> "ItemsTable":
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError(
                "latitude and longitude belong together: {latitude: lat, longitude: lon}"
            )
        return self


class InteractionsTable(JoinedTable):
    """What users did with items."""

    user_id: Text = Field(description="who acted")
    item_id: Text = Field(description="on what")
    ts: Time = Field(description="when")
    kind: KindField = Field(
        KindField(constant="purchase"),
        description="what a row is: a column of words, or one kind for the file",
    )
    order_id: Text | None = Field(
        None, description="rows of one order are simultaneous; null = rows of one moment are"
    )
    event_id: Text | None = Field(None, description="names a row, so that a repeated one is seen")
    quantity: Number | None = Field(None, description="pieces; null = one")
    price: Price | None = Field(None, description="what was paid; null = not known")
    line: Number | None = Field(None, description="place of the row in its order; null = not known")
    in_file_order: bool = Field(
        False,
        description="lines of an order that no `line` numbers stand as in their file (csv, JSON "
        "lines); events of the service have none and stand by item",
    )
    note: Text | None = Field(
        None,
        description="what else a history line tells: a rating as {template: 'rated {stars}'}, "
        "pieces, the headline of a review",
    )
    rating: Number | None = Field(None, description="how the user liked the item; see `liked`")
    liked: LikedField | None = Field(
        None,
        description="rows whose rating is so are of kind `like`, the others of kind `dislike`, "
        "which is never a target",
    )

    @model_validator(mode="after")
    def _liked_by_a_rating(self) -> "InteractionsTable":
        if (self.rating is None) != (self.liked is None):
            raise ValueError(
                'rating and liked belong together: {rating: stars, liked: {rating: ">= 4"}}'
            )
        return self


class ExposuresTable(JoinedTable):
    """What was shown, and what came of it."""

    user_id: Text = Field(description="who saw it")
    item_id: Text = Field(description="what was shown")
    ts: Time = Field(description="when")
    click: Text = Field(description="whether it was clicked")
    conversion: Text | None = Field(None, description="null = not known")
    own_top: OwnTopField | None = Field(
        None,
        description="in place of conversion: a click converts where a number, such as the seconds "
        "watched, is among the user's own highest so far; null = not",
    )
    placement: Text | None = Field(None, description="where it stood; null = not known")
    conversions: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Text] = Field(
        default_factory=dict,
        description="in place of conversion: kind, such as install or pay -> column; an empty "
        "cell, and the 0 of a kind that is not the goal, say that none was reported",
    )
    goal: Text | None = Field(
        None, description="the kind that the advertiser pays for; belongs to conversions"
    )
    advertiser: Text | None = Field(
        None, description="who reports conversions; null = each item by itself"
    )
    value: Number | None = Field(
        None, description="what the conversion was worth, as a sum of money; null = not known"
    )

    @model_validator(mode="after")
    def _one_way_of_conversions(self) -> "ExposuresTable":
        if bool(self.conversions) != (self.goal is not None):
            raise ValueError(
                "conversions and goal belong together: {conversions: {install: installed, pay: "
                "paid}, goal: optimises}"
            )
        if self.conversions and self.conversion is not None:
            raise ValueError("takes conversion or conversions, not both: the goal's is the one")
        if self.own_top is not None and (self.conversions or self.conversion is not None):
            raise ValueError(
                "own_top stands in place of conversion and conversions: leave them out"
            )
        if self.advertiser is not None and not self.conversions:
            raise ValueError("advertiser belongs to conversions")
        return self


class EventsTable(JoinedTable):
    """Any other behaviour: searches, live streams, active apps, saves, likes, comments."""

    modality: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        description="what it is called in prompts and templates, such as search",
    )
    user_id: Text = Field(description="whose behaviour")
    ts: Time = Field(description="when")
    value: Text = Field(description="what was searched, watched or used")
    weight: Number | None = Field(None, description="seconds or counts; null = 1")
