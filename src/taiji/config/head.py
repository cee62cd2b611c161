"""Settings of the stage `head`: RPORec's recommendation head, which may pay alignment."""

from pydantic import Field

from taiji.config.section import Count, Section


class HeadSection(Section):
    """RPORec's recommendation head, trained on the student's own chains (docs/related.md)."""

    enabled: bool = Field(
        False, description="train it before alignment; `evaluate` then judges its lists too"
    )
    dim: int = Field(128, ge=4, multiple_of=4, description="size of its vectors")
    epochs: Count = Field(10, description="at most; it stops where users held back gain no more")
    learning_rate: float = Field(1e-3, gt=0, description="of AdamW")
    negatives: Count = Field(99, description="items that the true one is ranked among")
