"""Settings of the models of the whole run: the student that is tuned, and the text encoder."""

from collections.abc import Iterator

from pydantic import Field

from taiji.config.section import Count, Named, Section


class StudentSection(Section):
    """The language model that is tuned: a folder, a Hub name, or `smollm2-135m-instruct`."""

    model: str = Field(
        "smollm2-135m-instruct",
        description="folder, Hub name or `smollm2-135m-instruct` (paper: "
        "DeepSeek-R1-Distill-Qwen-7B)",
    )
    max_prompt_tokens: Count = Field(
        1024, description="the oldest history is dropped beyond this (paper: 13,000)"
    )
    max_completion_tokens: Count = Field(
        128, description="chain of thought plus answer (paper: 2,048)"
    )

    answers: int = Field(
        1,
        ge=1,
        le=20,
        description="items that an answer names, a line each, likeliest first (paper: one)",
    )

    def named(self) -> Iterator[Named]:
        """The student's weights, tokenizer and chat template."""
        yield Named("model", "model", self.model)


class EncoderSection(Section):
    """The text encoder behind Eq. 3, grounding and the features."""

    model: str = Field(
        "all-minilm-l6-v2",
        description="folder, Hub name or `all-minilm-l6-v2` (paper: Qwen3-Embedding-0.6B)",
    )
    batch_size: Count = Field(32, description="texts at a time")
    catalogue_titles: Count = Field(
        8000, description="titles sold most so far, among which an answer is grounded and judged"
    )

    def named(self) -> Iterator[Named]:
        """The encoder's weights."""
        yield Named("encoder", "model", self.model)
