"""How a language model is asked: in this process by Transformers or vLLM, or at an endpoint.

The same blocks everywhere: the teacher of `distill`, the models that `infer` and `evaluate` ask,
and the scorer, as far as a server can score.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from taiji.config.section import Count, Section

Dtype = Literal["auto", "float32", "bfloat16"]

_OURS = ("model", "messages", "prompt", "n", "stream", "max_tokens", "max_completion_tokens")


class TransformersEngine(Section):
    """Transformers, in the process that does the work."""

    kind: Literal["transformers"] = "transformers"
    batch_size: Count = Field(32, description="replies at a time")
    dtype: Dtype = Field(
        "auto",
        description="of the weights; auto: bfloat16 on a GPU that has it, else float32. A CPU with "
        "AMX or AVX512-BF16 writes nearly twice as fast in bfloat16, others up to a hundred times "
        "slower",
    )

    @property
    def prompts_between_commits(self) -> int:
        """What a kill costs at most."""
        return self.batch_size


class VllmEngine(Section):
    """vLLM, in the process that does the work (extra `vllm`)."""

    kind: Literal["vllm"]
    tensor_parallel_size: Count = Field(1, description="GPUs that share the weights")
    gpu_memory_share: float = Field(0.9, gt=0, le=1, description="of each GPU, for vLLM")
    max_model_tokens: Count | None = Field(
        None, description="prompt and reply together; null = the model's own window"
    )
    dtype: Dtype = Field("auto", description="of the weights; auto: as the model's folder says")
    batch_size: Count = Field(512, description="prompts that vLLM is handed at once")

    @property
    def prompts_between_commits(self) -> int:
        """What a kill costs at most."""
        return self.batch_size


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


class ServerSection(Section):
    """A server that speaks the OpenAI protocol. The key comes from the environment alone."""

    base_url: str = Field(
        pattern=r"^https?://",
        description="address without /chat/completions, such as http://localhost:8000/v1",
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


class EndpointSection(ServerSection):
    """A model at such a server, which scores prompts."""

    model: str = Field(description="the server's name of the model")


class WritingServer(ServerSection):
    """A server that writes."""

    extra_body: dict[str, Any] = Field(
        default_factory=dict,
        description="further fields of each request; null leaves one of ours out, such as seed",
    )

    @field_validator("extra_body")
    @classmethod
    def _leaves_ours_alone(cls, extra: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(set(extra) & set(_OURS)):
            raise ValueError(f"extra_body: {', '.join(taken)}: set by the settings around it")
        return extra


class OpenAIEngine(WritingServer):
    """A server that holds the models of the run."""

    kind: Literal["openai"]
    model: str | None = Field(
        None,
        description="the server's name of the model; null = the run's: untuned, sft, policy, or as "
        "evaluate.models calls it",
    )
    prompts: Literal["ids", "chat"] = Field(
        "ids",
        description="ids: as the token ids that the model was trained on, at /completions, which "
        "vLLM and SGLang take; chat: as messages, which the server tokenises in its own way",
    )

    @property
    def prompts_between_commits(self) -> int:
        """Calls are kept one by one; a shard's last ones leave workers idle, so it holds many."""
        return 16 * self.concurrency


Engine = Annotated[
    TransformersEngine | VllmEngine | OpenAIEngine,
    Field(discriminator="kind"),
]
