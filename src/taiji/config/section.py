"""What every section of a recipe shares."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]

ModelName = Literal["untuned", "sft", "policy"]
"""A language model of the run, by the stage that left it: before `sft`, after it, after `align`."""

UNTUNED: ModelName = "untuned"
SFT: ModelName = "sft"
POLICY: ModelName = "policy"

TextName = Literal["untuned", "sft", "policy", "prompt"]
"""Whose text becomes features: a model's, or the prompt's facts as they are, by no model."""

PROMPT: TextName = "prompt"


def _a_path(text: str) -> str:
    try:
        Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError("no such person on this machine") from error
    if not text or "\0" in text:
        raise ValueError("no path")
    return text


YEARS = (1900, 2200)
"""First and last year of a day in a recipe; beyond them clocks and calendars end somewhere."""


def _a_day(day: date) -> date:
    if not YEARS[0] <= day.year <= YEARS[1]:
        raise ValueError(f"not in the years {YEARS[0]} to {YEARS[1]}")
    return day


Day = Annotated[date, AfterValidator(_a_day)]

PathText = Annotated[str, AfterValidator(_a_path)]
"""Of a file or a folder, as seen from where the command runs; `~` is the home folder."""


@dataclass(frozen=True)
class Named:
    """Something outside the recipe that a setting names: what it holds counts like a setting.

    Attributes:
        kind: A text file or a table; a language model; a text encoder; Python code by its import
            path; or the log, which its section describes.
        setting: Which setting names it, below the section that was asked.
        name: What the setting says.
    """

    kind: Literal["file", "model", "encoder", "code", "log"]
    setting: str
    name: str


class Section(BaseModel):
    """Frozen, strict, and without room for unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def named(self) -> Iterator[Named]:
        """What this section and those in it name outside the recipe."""
        for key, value in self:
            if isinstance(value, Section):
                yield from (
                    replace(named, setting=f"{key}.{named.setting}".rstrip("."))
                    for named in value.named()
                )
