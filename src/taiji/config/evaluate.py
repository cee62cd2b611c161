"""Settings of the judgement of texts and lists, and of what a report may show."""

from collections.abc import Iterator
from typing import get_args

from pydantic import Field, field_validator, model_validator

from taiji.config.section import Count, Name, Named, Section, TextName

_WRITERS = frozenset(
    {
        *get_args(TextName),
        *("most_popular", "most_popular_new", "most_frequent", "last_bought"),
    }
)


class GuidedSection(Section):
    """Promise: a scorer of prefixes guides a beam over categories and titles (docs/related.md)."""

    keep: Count = Field(4, description="K, prefixes that survive at each depth")
    shown: Count = Field(16, description="K+, the likeliest children, of which the scorer keeps K")
    epochs: Count = Field(20, description="of the scorer, at most")

    @model_validator(mode="after")
    def _a_choice(self) -> "GuidedSection":
        if self.shown <= self.keep:
            raise ValueError("shown must be above keep, or the scorer has nothing to choose from")
        return self


class EvaluateSection(Section):
    """The paper's metrics, each with an interval; and lists of titles beside the answers."""

    hit_rate_at: tuple[int, ...] = Field(
        (50, 100),
        strict=False,
        min_length=1,
        description="K of Title_Hit-Rate@K (paper: 50 and 100)",
    )
    bootstrap: int = Field(1000, ge=100, description="resamples of users for the intervals")
    models: dict[Name, str] = Field(
        default_factory=dict,
        description="further models to ask and judge, each a folder or a Hub name, under a name",
    )
    candidates: int = Field(
        0,
        ge=0,
        le=1024,
        description="titles an example of which each model says how likely they are, for answers "
        "that know the catalogue; 0 = answers as they come",
    )
    calibration: Count = Field(
        200, description="alignment examples on which such answers are weighed against the log"
    )

    guided: GuidedSection | None = Field(
        None, description="lists by a beam that a scorer guides; null = none. Needs `candidates`"
    )

    def named(self) -> Iterator[Named]:
        """The further models that are asked."""
        for name, model in self.models.items():
            yield Named("model", f"models.{name}", model)

    @field_validator("models")
    @classmethod
    def _names_of_their_own(cls, models: dict[str, str]) -> dict[str, str]:
        taken = sorted(set(models) & _WRITERS)
        if taken:
            raise ValueError(f"{', '.join(taken)}: a name of every table: choose another")
        return models

    @model_validator(mode="after")
    def _models_are_asked(self) -> "EvaluateSection":
        if self.guided is not None and not self.candidates:
            raise ValueError("guided: no model is asked how likely titles are: set candidates too")
        return self


class ReportSection(Section):
    """What leaves the machine in a report."""

    pseudonym_key_env: str = Field(
        "TAIJI_PSEUDONYM_KEY",
        pattern=r"^[A-Z_][A-Z0-9_]*$",
        description="variable with the key of user pseudonyms; unset: a key file made once",
    )
