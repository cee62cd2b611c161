"""How a person and their history are put into words: `data.text`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from taiji.config.section import PathText, Section
from taiji.config.yaml_text import parse, read_text
from taiji.errors import ConfigError
from taiji.templates import Language, Templates, check_template, gaps, resolve_templates


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

    language: Language = Field(
        "en", description="of our words; data stays as it is; other = all words stand in `words`"
    )
    words: PathText | None = Field(
        None, description="a YAML file of templates, name by name, such as a language of your own"
    )
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
    sentence_case: bool = Field(
        False, description="titles, brands and categories in capitals become `Oat milk 1 l`"
    )
    category_levels: int = Field(
        3,
        ge=0,
        le=3,
        description="levels of categories that answers are asked for; not given: those that the "
        "source maps",
    )
    unsaid_kind: str = Field(
        "purchase",
        pattern=r"^[a-z][a-z_]*$",
        description="the kind of interaction that history lines take for granted and prompts speak "
        "of; not given: the strongest of the source",
    )

    @model_validator(mode="before")
    @classmethod
    def _with_words(cls, given: Any) -> Any:
        """What stands in the file of words becomes templates, so that a saved recipe is whole."""
        if not isinstance(given, Mapping) or not isinstance(path := given.get("words"), str):
            return given
        read = read_words(Path(path))
        return {**given, "words": None, "templates": {**read, **(given.get("templates") or {})}}

    @model_validator(mode="after")
    def _templates_can_be_filled(self) -> Self:
        self.resolved()
        return self

    def resolved(self) -> Templates:
        """All words, of the language, the kind and the levels that are set."""
        return resolve_templates(
            self.language, self.templates, kind=self.unsaid_kind, levels=self.category_levels
        )


def read_words(path: Path) -> dict[str, str]:
    """The templates of a file.

    Raises:
        ValueError: It cannot be read, or is no list of names with texts.
    """
    try:
        tree = parse(read_text(path.expanduser()), str(path), round_trip=False)
    except (ConfigError, RuntimeError) as error:
        raise ValueError(f"words: {error}") from error
    if not isinstance(tree, dict) or not all(isinstance(text, str) for text in tree.values()):
        raise ValueError(f"words: {path}: expected a name and a text in quotes on each line")
    return {str(name): str(text) for name, text in tree.items()}
