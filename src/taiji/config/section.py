"""What every section of a recipe shares."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]

ModelName = Literal["untuned", "sft", "policy"]
"""A language model of the run, by the stage that left it: before `sft`, after it, after `align`."""

UNTUNED: ModelName = "untuned"
SFT: ModelName = "sft"
POLICY: ModelName = "policy"


class Section(BaseModel):
    """Frozen, strict, and without room for unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
