"""The mapping of a table: which files, and which of their columns is which field.

How the sources of `data.source` put tables together is in `taiji.config.sources`; what a
described table becomes is in `taiji.data.tables.mapping`.
"""

import codecs
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from taiji.config.section import Section

SCALE = ("s", "ms", "us")
_SAMPLE = "id,name\n1,a b"


def _column(value: Any) -> Any:
    """A bare word is a column's name."""
    return {"column": value} if isinstance(value, str) else value


class TextField(Section):
    """Text of a field: a column, a fixed word, or columns in a sentence."""

    column: str | None = Field(None, description="a column of the file")
    constant: str | None = Field(None, min_length=1, description="the same word in every row")
    template: str | None = Field(
        None, description="`{brand} {name}`: a missing column leaves nothing behind"
    )
    values: dict[str, str] = Field(
        default_factory=dict, description="words of the column in other words; the rest stays"
    )

    @model_validator(mode="after")
    def _one_of_three(self) -> "TextField":
        if sum(value is not None for value in (self.column, self.constant, self.template)) != 1:
            raise ValueError("needs one of column, constant and template")
        if self.template is not None and not self.columns:
            raise ValueError("a template names at least one {column}; for a word use constant")
        if self.values and self.column is None:
            raise ValueError("values belongs to column")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the field reads."""
        if self.template is not None:
            return tuple(re.findall(r"\{([^{}]+)\}", self.template))
        return () if self.column is None else (self.column,)


Text = Annotated[TextField, BeforeValidator(_column)]


class KindField(Section):
    """What a row of the interactions is: one kind for the file, or a column of words."""

    column: str | None = Field(None, description="a column whose words say what each row is")
    constant: str | None = Field(
        None, pattern=r"^[a-z][a-z_]*$", description="the same kind for every row, such as purchase"
    )
    values: dict[str, Annotated[str, Field(pattern=r"^[a-z][a-z_]*$")]] | None = Field(
        None, description="word in the file -> kind; a word that is not named here is a fault"
    )

    @model_validator(mode="after")
    def _column_or_constant(self) -> "KindField":
        if (self.column is None) == (self.constant is None):
            raise ValueError("needs one of column and constant")
        if (self.column is None) != (self.values is None):
            raise ValueError("values belongs to column: name the kind of every word of the file")
        return self


class TimeField(Section):
    """A moment: how it is written, and where the clock stood that wrote it."""

    column: str = Field(description="a column of the file")
    format: str = Field(
        "iso", description="iso, s, ms or us since 1970, or a pattern such as %d/%m/%Y %H:%M"
    )
    timezone: str | None = Field(
        None, description="of times that carry none, such as Europe/Berlin or UTC"
    )

    @field_validator("format")
    @classmethod
    def _known_format(cls, text: str) -> str:
        if text in ("iso", *SCALE):
            return text
        codes = re.findall(r"%(.?)", text)
        unknown = sorted(set(codes) - set("YmdHIMSp"))
        if not {"Y", "m", "d"} <= set(codes) or unknown or len(codes) != len(set(codes)):
            raise ValueError(
                "needs iso, s, ms, us or a pattern with %Y %m %d, each code once, "
                "of %Y %m %d %H %I %M %S %p"
            )
        return text

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, zone: str | None) -> str | None:
        if zone is not None:
            from zoneinfo import available_timezones

            if zone not in available_timezones():
                raise ValueError("no such time zone: a name such as Europe/Berlin or UTC")
        return zone


Time = Annotated[TimeField, BeforeValidator(_column)]


class NumberField(Section):
    """A number; `unit` turns what the file counts into what is meant."""

    column: str = Field(description="a column of the file")
    unit: float = Field(1.0, gt=0, description="worth of one: 0.01 for prices in cents")
    strip: str = Field("", description="signs to drop first, such as `$,` of `$1,299.00`")
    decimal: Literal[".", ","] = Field(".", description="the sign between units and tenths")

    @model_validator(mode="after")
    def _keeps_the_decimal(self) -> "NumberField":
        if self.decimal in self.strip:
            raise ValueError("strip holds the decimal sign: 1.50 would become 150")
        return self


Number = Annotated[NumberField, BeforeValidator(_column)]


class PriceField(NumberField):
    """What was paid."""

    per: Literal["unit", "line"] = Field(
        "unit", description="line: the price of all pieces, divided by the quantity"
    )
    zero_is_missing: bool = Field(False, description="a price of 0 means that none is known")


Price = Annotated[PriceField, BeforeValidator(_column)]


class CategoryField(Section):
    """The category path: columns from the top level down, one column that holds it, or flags."""

    columns: tuple[str, ...] | None = Field(
        None,
        strict=False,
        min_length=1,
        max_length=3,
        description="one column a level, the top level first",
    )
    column: str | None = Field(None, description="one column that holds the whole path")
    separator: str | None = Field(None, min_length=1, description="of a path in one text column")
    list: bool = Field(False, description="the column holds a list, the top level first")
    flags: dict[str, str] | None = Field(
        None, min_length=1, description="column of 0 and 1 -> top level; the first 1 counts"
    )
    levels: int = Field(3, ge=1, le=3, description="how many levels of the path to take")

    @model_validator(mode="after")
    def _one_way(self) -> "CategoryField":
        if sum(value is not None for value in (self.columns, self.column, self.flags)) != 1:
            raise ValueError("needs one of columns, column and flags")
        if self.column is None and (self.separator or self.list):
            raise ValueError("separator and list belong to column")
        if self.separator is not None and self.list:
            raise ValueError("takes separator or list, not both")
        return self


def _levels(value: Any) -> Any:
    if isinstance(value, str):
        return {"columns": [value]}
    return {"columns": value} if isinstance(value, list | tuple) else value


Categories = Annotated[CategoryField, BeforeValidator(_levels)]


class ExplodeSection(Section):
    """One row for each part of a column, such as `N1-1 N2-0`: what was shown, and its click."""

    column: str = Field(description="the column that holds the parts")
    separator: str = Field(" ", min_length=1, description="between the parts")
    names: tuple[str, ...] = Field(
        strict=False, min_length=1, description="columns that a part becomes"
    )
    inner: str = Field("-", min_length=1, description="between the columns inside a part")


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
    only: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="column -> words: rows with others are left out, counted"
    )

    @field_validator("only", mode="before")
    @classmethod
    def _tuples(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            key: tuple(words) if isinstance(words, list) else words for key, words in value.items()
        }

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


class UsersTable(RawTable):
    """Who the users are. Optional: without it, users are whoever acts."""

    user_id: Text = Field(description="names a user; every table calls them alike")
    profile: dict[str, Text] = Field(
        default_factory=dict, description="label -> column, in the order in which prompts show them"
    )


class ItemsTable(RawTable):
    """What can be recommended."""

    item_id: Text = Field(description="names an item; every table calls it alike")
    title: Text = Field(description="what prompts and answers call it")
    categories: Categories | None = Field(
        None, description="the path of categories, the top level first"
    )
    brand: Text | None = Field(None, description="null = none is known")


class LikedField(Section):
    """From which rating on an item counts as liked."""

    rating: str = Field(
        pattern=r"^(>=|>|<=|<) *-?[0-9]+([.][0-9]+)?$", description="such as `>= 4`"
    )


class InteractionsTable(RawTable):
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


class ExposuresTable(RawTable):
    """What was shown, and what came of it."""

    user_id: Text = Field(description="who saw it")
    item_id: Text = Field(description="what was shown")
    ts: Time = Field(description="when")
    click: Text = Field(description="whether it was clicked")
    conversion: Text | None = Field(None, description="null = not known")
    placement: Text | None = Field(None, description="where it stood; null = not known")


class EventsTable(RawTable):
    """Any other behaviour: searches, live streams, active apps, saves, likes, comments."""

    modality: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        description="what it is called in prompts and templates, such as search",
    )
    user_id: Text = Field(description="whose behaviour")
    ts: Time = Field(description="when")
    value: Text = Field(description="what was searched, watched or used")
    weight: Number | None = Field(None, description="seconds or counts; null = 1")
