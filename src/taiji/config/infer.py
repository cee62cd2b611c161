"""Settings of inference: which models write, or whose texts are taken."""

from collections.abc import Iterator

from pydantic import Field, field_validator

from taiji.config.engines import Engine, TransformersEngine
from taiji.config.section import (
    POLICY,
    SFT,
    UNTUNED,
    Count,
    ModelName,
    Name,
    Named,
    PathText,
    Section,
)


class InferSection(Section):
    """Which tuned models write, and how."""

    models: tuple[ModelName, ...] = Field(
        (UNTUNED, SFT, POLICY), strict=False, description="judged on the test examples"
    )
    texts_from: PathText | None = Field(
        None,
        description="JSON lines or Parquet of user, time and text: texts that exist already, in "
        "place of the policy's; no language model is trained or asked",
    )
    likelihoods: bool = Field(
        False,
        description="for the arm `match` of `rank`: how much likelier than for anybody a model "
        "finds each category on offer, behind a user's prompt and the chain it wrote",
    )
    engine: Engine = Field(TransformersEngine(), description="how models are asked")
    engines: dict[Name, Engine] = Field(
        default_factory=dict,
        description="another way to ask one of them, by its name: untuned, sft, policy, or as "
        "evaluate.models calls it",
    )
    temperature: float = Field(0.0, ge=0, le=2, description="0 = greedy")
    max_completion_tokens: Count | None = Field(
        None,
        description="longest text, where it may be longer than what SFT and alignment saw; else "
        "student.max_completion_tokens, which cuts off an answer that names a long title",
    )

    @field_validator("engine", mode="before")
    @classmethod
    def _kind_may_be_left_out(cls, value: object) -> object:
        return {"kind": "transformers", **value} if isinstance(value, dict) else value

    def engine_of(self, model: str) -> Engine:
        """How a model is asked."""
        return self.engines.get(model, self.engine)

    def named(self) -> Iterator[Named]:
        """Texts that exist already."""
        if self.texts_from is not None:
            yield Named("file", "texts_from", self.texts_from)
