"""The fields of a mapping: how a column, or several, become what a table of ours holds."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from taiji.config.section import Section

SCALE = ("s", "ms", "us")


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
    otherwise: str | None = Field(
        None, description="a column whose word is the only level of an item that has no path"
    )

    @model_validator(mode="after")
    def _one_way(self) -> "CategoryField":
        if sum(value is not None for value in (self.columns, self.column, self.flags)) != 1:
            raise ValueError("needs one of columns, column and flags")
        if self.column is None and (self.separator or self.list):
            raise ValueError("separator and list belong to column")
        if self.separator is not None and self.list:
            raise ValueError("takes separator or list, not both")
        return self

    @property
    def depth(self) -> int:
        """The most levels that a path can have."""
        whole = self.separator is not None or self.list
        return min(self.levels, len(self.columns) if self.columns else 3 if whole else 1)


def _levels(value: Any) -> Any:
    if isinstance(value, str):
        return {"columns": [value]}
    return {"columns": value} if isinstance(value, list | tuple) else value


Categories = Annotated[CategoryField, BeforeValidator(_levels)]


class OwnTopField(Section):
    """A conversion out of a number: it is among the highest that the user had before (OneRec-V2).

    Compared are the user's own earlier views whose `within` is alike: between the same powers of 2.
    """

    of: Number = Field(description="the number, such as seconds watched or money spent")
    within: Number = Field(
        description="what it grows with by itself, such as the length in seconds, or the price"
    )
    share: float = Field(0.25, gt=0, lt=1, description="of the user's own earlier views: the top")
    least: int = Field(
        5, ge=1, description="earlier views to compare with; the conversion of fewer is not known"
    )
    dislike: Text | None = Field(
        None, description="1 where the user said no, which is no conversion; null = nobody does"
    )


class LikedField(Section):
    """From which rating on an item counts as liked."""

    rating: str = Field(
        pattern=r"^(>=|>|<=|<) *-?[0-9]+([.][0-9]+)?$", description="such as `>= 4`"
    )


class ExplodeSection(Section):
    """One row for each part of a column: what was shown and its click, or the lines of an order.

    Text is cut, as `N1-1 N2-0`; a list of JSON gives a row an entry, whose columns are the entry's
    own keys or, where it is no object, the entry itself.
    """

    column: str = Field(description="the column that holds the parts")
    separator: str = Field(" ", min_length=1, description="between the parts of a text")
    names: tuple[str, ...] = Field(
        strict=False, min_length=1, description="columns that a part becomes"
    )
    inner: str = Field("-", min_length=1, description="between the columns inside a part of text")


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_tuple)]


class OnlyField(Section):
    """Which words of a column make a row count; all that is given must hold."""

    any_of: Words | None = Field(None, description="the word is one of these; null = any word")
    none_of: Words = Field((), description="the word is none of these")
    begins: Words = Field((), description="the word begins with one of these")
    begins_not: Words = Field((), description="the word begins with none of these")
    filled: bool = Field(False, description="the column is not empty")

    @model_validator(mode="after")
    def _says_something(self) -> "OnlyField":
        if not self.model_fields_set or all(not given for _, given in self):
            raise ValueError("needs one of any_of, none_of, begins, begins_not and filled")
        return self


def _any_of(value: Any) -> Any:
    """A list is short for `any_of`."""
    return {"any_of": value} if isinstance(value, list | tuple) else value


Only = Annotated[OnlyField, BeforeValidator(_any_of)]
