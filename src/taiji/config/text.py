"""How a person and their history are put into words: `data.text`."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from taiji.config.section import Section
from taiji.templates import Language, check_template, gaps, resolve_templates


class FieldSection(Section):
    """How one field of the users table is told, if it is on the allow-list."""

    kind: Literal["text", "age", "place"] | None = Field(
        None, description="age is told as a band, place by its largest parts; null = by its name"
    )
    group: Literal["person", "household", "device", "lifestyle"] | None = Field(
        None, description="the sentence that it belongs to; null = by its name"
    )
    pattern: str | None = Field(None, description="words around it, such as `lives in {value}`")
    bands: tuple[Annotated[int, Field(ge=1, le=120)], ...] = Field(
        (18, 25, 35, 45, 55, 65), strict=False, min_length=1, description="lower bounds of ages"
    )
    levels: int = Field(1, ge=1, description="parts of a place that are told: Country/Region/City")

    @field_validator("pattern")
    @classmethod
    def _has_its_gap(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            check_template(pattern, frozenset({"value", "currency"}), "pattern")
            if "value" not in gaps(pattern):
                raise ValueError("a pattern needs {value}")
        return pattern

    @field_validator("bands")
    @classmethod
    def _rising(cls, bands: tuple[int, ...]) -> tuple[int, ...]:
        if list(bands) != sorted(set(bands)):
            raise ValueError("lower bounds of ages must rise")
        return bands


class TextSection(Section):
    """How profiles and histories are told, and what of a person may be told at all."""

    language: Language = Field("en", description="of our words; data stays as it is")
    currency: str | None = Field(
        None,
        pattern=r"^[A-Z]{3}$",
        description="of all prices, by ISO 4217; null = none is told",
    )
    fields: tuple[str, ...] | None = Field(
        None, strict=False, description="allow-list of profile fields; null = all of the source"
    )
    profile: dict[str, FieldSection] = Field(
        default_factory=dict, description="how a field is told, by its name"
    )
    templates: dict[str, str] = Field(
        default_factory=dict, description="words to say instead of ours, by name"
    )
    max_title_characters: int = Field(
        200, ge=8, description="longer titles, names and values are cut between characters"
    )
    unsaid_kind: str = Field(
        "purchase", description="the kind of interaction that history lines take for granted"
    )

    @model_validator(mode="after")
    def _templates_can_be_filled(self) -> Self:
        resolve_templates(self.language, self.templates)
        return self
