"""Settings of whoever writes the reasoning; language models are asked as `engines` says."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from taiji.config.engines import TransformersEngine, VllmEngine, WritingServer
from taiji.config.section import Count, Named, Section


class EvidenceTeacher(Section):
    """A deterministic writer that argues from facts in the prompt. Not a language model."""

    kind: Literal["evidence"] = "evidence"
    encoder: str | None = Field(
        None,
        description="text encoder (folder, Hub name or `all-minilm-l6-v2`) by which it also argues "
        "from what the profile means, such as a note (mode rupr); null = from words alone",
    )
    only_meant: bool = Field(
        False,
        description="argue from what the profile means and nothing else, a clause for each item of "
        "the answer; an example with an item that no clause means gets no chain",
    )

    @model_validator(mode="after")
    def _meaning_has_an_encoder(self) -> "EvidenceTeacher":
        if self.only_meant and self.encoder is None:
            raise ValueError("only_meant: who finds what is meant? set encoder")
        return self

    def named(self) -> Iterator[Named]:
        """The encoder's weights."""
        if self.encoder is not None:
            yield Named("encoder", "encoder", self.encoder)


class TransformersTeacher(TransformersEngine):
    """A local model that writes the reasoning."""

    kind: Literal["transformers"]
    model: str = Field(
        "smollm2-135m-instruct",
        description="folder, Hub name or `smollm2-135m-instruct` (paper: QwQ-32B)",
    )
    temperature: float = Field(0.8, gt=0, le=2, description="of its samples")
    max_new_tokens: Count = Field(96, description="longest chain with its answer")

    def named(self) -> Iterator[Named]:
        """The teacher's weights."""
        yield Named("model", "model", self.model)


class VllmTeacher(VllmEngine):
    """A local model in vLLM, in the process of the command (extra `vllm`)."""

    model: str = Field(description="folder or Hub name (paper: QwQ-32B)")
    temperature: float = Field(0.8, ge=0, le=2, description="of its samples")
    max_new_tokens: Count = Field(512, description="longest chain with its answer")

    def named(self) -> Iterator[Named]:
        """The teacher's weights."""
        yield Named("model", "model", self.model)


class OpenAITeacher(WritingServer):
    """A model behind a chat endpoint that writes the reasoning."""

    kind: Literal["openai"]
    model: str = Field(
        description="the server's name of the model (paper, as the teacher: QwQ-32B)"
    )
    temperature: float = Field(0.8, ge=0, le=2, description="of its samples")
    max_new_tokens: Count = Field(512, description="longest chain with its answer")


Teacher = Annotated[
    EvidenceTeacher | TransformersTeacher | VllmTeacher | OpenAITeacher,
    Field(discriminator="kind"),
]
