"""Settings of whoever writes the reasoning, and of how a model behind an endpoint is asked."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from taiji.config.section import Count, Named, Section

_OURS = ("model", "messages", "n", "stream", "max_tokens", "max_completion_tokens")


class EvidenceTeacher(Section):
    """A deterministic writer that argues from facts in the prompt. Not a language model."""

    kind: Literal["evidence"] = "evidence"


class TransformersTeacher(Section):
    """A local model that writes the reasoning."""

    kind: Literal["transformers"]
    model: str = Field(
        "smollm2-135m-instruct",
        description="folder, Hub name or `smollm2-135m-instruct` (paper: QwQ-32B)",
    )
    temperature: float = Field(0.8, gt=0, le=2, description="of its samples")
    max_new_tokens: Count = Field(96, description="longest chain with its answer")
    batch_size: Count = Field(32, description="chains at a time")

    def named(self) -> Iterator[Named]:
        """The teacher's weights."""
        yield Named("model", "model", self.model)


class VllmTeacher(Section):
    """A local model in vLLM, in the process of the command (extra `vllm`)."""

    kind: Literal["vllm"]
    model: str = Field(description="folder or Hub name (paper: QwQ-32B)")
    temperature: float = Field(0.8, ge=0, le=2, description="of its samples")
    max_new_tokens: Count = Field(512, description="longest chain with its answer")
    tensor_parallel_size: Count = Field(1, description="GPUs that share the weights")
    gpu_memory_share: float = Field(0.9, gt=0, le=1, description="of each GPU, for vLLM")
    max_model_tokens: Count | None = Field(
        None, description="prompt and reply together; null = the model's own window"
    )

    def named(self) -> Iterator[Named]:
        """The teacher's weights."""
        yield Named("model", "model", self.model)


class RetrySection(Section):
    """How long a call is tried, and how many lost calls it takes to stop the run."""

    max_retries: int = Field(5, ge=0, description="further attempts of one call")
    first_pause_seconds: float = Field(
        0.5, gt=0, description="doubles with each attempt, unless the server says how long"
    )
    deadline_seconds: float = Field(
        900, gt=0, description="for one call with all its attempts and pauses"
    )
    stop_after_failures: Count = Field(
        10, description="calls in a row that fail for good; the run can go on later"
    )


class BudgetSection(Section):
    """What a run may spend at an endpoint; beyond it no further call is begun."""

    max_tokens: Count | None = Field(None, description="of prompts and replies together")
    max_cost: float | None = Field(None, gt=0, description="in the currency of the prices")
    input_price: float = Field(0.0, ge=0, description="of a million tokens of prompts")
    output_price: float = Field(0.0, ge=0, description="of a million tokens of replies")
    max_hours: float | None = Field(None, gt=0, description="of one attempt of the command")

    @model_validator(mode="after")
    def _cost_needs_a_price(self) -> "BudgetSection":
        if self.max_cost is not None and not self.input_price + self.output_price:
            raise ValueError("budget.max_cost: needs input_price or output_price to count with")
        return self


class EndpointSection(Section):
    """A server that speaks the OpenAI protocol. The key comes from the environment alone."""

    base_url: str = Field(
        pattern=r"^https?://",
        description="address without /chat/completions, such as http://localhost:8000/v1",
    )
    model: str = Field(
        description="the server's name of the model (paper, as the teacher: QwQ-32B)"
    )
    api_key_env: str = Field(
        "OPENAI_API_KEY",
        pattern=r"^[A-Z_][A-Z0-9_]*$",
        description="variable that holds the key; the key itself stands nowhere",
    )
    concurrency: Count = Field(8, description="calls side by side")
    timeout_seconds: float = Field(120, gt=0, description="for one attempt, to the last byte")
    retry: RetrySection = RetrySection()
    budget: BudgetSection = BudgetSection()


class OpenAITeacher(EndpointSection):
    """A model behind a chat endpoint that writes the reasoning."""

    kind: Literal["openai"]
    temperature: float = Field(0.8, ge=0, le=2, description="of its samples")
    max_new_tokens: Count = Field(512, description="longest chain with its answer")
    extra_body: dict[str, Any] = Field(
        default_factory=dict,
        description="further fields of each request; null leaves one of ours out, such as seed",
    )

    @field_validator("extra_body")
    @classmethod
    def _leaves_ours_alone(cls, extra: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(set(extra) & set(_OURS)):
            raise ValueError(f"extra_body: {', '.join(taken)}: set by the teacher's own settings")
        return extra


Teacher = Annotated[
    EvidenceTeacher | TransformersTeacher | VllmTeacher | OpenAITeacher,
    Field(discriminator="kind"),
]
