"""Settings of RUPR and ORFT: who writes chains of thought, which are learnt, and how."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from taiji.config.engines import EndpointSection
from taiji.config.section import Count, Named, Section, Share
from taiji.config.teachers import EvidenceTeacher, Teacher


class DistillSection(Section):
    """RUPR: the teacher, shown the true next item, writes k chains that lead to it."""

    mode: Literal["rupr", "direct"] = Field(
        "rupr",
        description="rupr: the teacher is shown the item (paper); direct: it names its own",
    )
    teacher: Teacher = Field(
        EvidenceTeacher(), description="who writes the chains (paper: QwQ-32B)"
    )
    candidates: Count = Field(3, le=16, description="chains per example (paper: k = 3)")

    @model_validator(mode="after")
    def _meaning_needs_the_item(self) -> "DistillSection":
        teacher = self.teacher
        if self.mode == "direct" and isinstance(teacher, EvidenceTeacher) and teacher.only_meant:
            raise ValueError("teacher.only_meant: mode direct shows no item to mean: leave one out")
        return self


class ScoreSection(Section):
    """How likely the true answer is under each chain (Eq. 1)."""

    model: str | None = Field(None, description="who scores; null = the student before SFT")
    endpoint: EndpointSection | None = Field(
        None,
        description="server that scores token ids with that model, such as vLLM's, instead of its "
        "weights here; its tokenizer is still read",
    )
    clip: float = Field(
        5.0, gt=0, description="nats at which the clipped perplexity cuts a token's loss"
    )
    compile: bool = Field(
        False,
        description="fuse the model's blocks by torch.compile: some 20 seconds at the start for a "
        "tenth of the time, so for minutes of scoring or more; a CPU needs a C++ compiler",
    )

    def named(self) -> Iterator[Named]:
        """Who scores, if not the student."""
        if self.model is not None:
            yield Named("model", "model", self.model)

    @model_validator(mode="after")
    def _compiled_where_the_weights_are(self) -> "ScoreSection":
        if self.compile and self.endpoint is not None:
            raise ValueError("score.compile: the weights are at score.endpoint: set one of them")
        return self


class RefineSection(Section):
    """ORFT's selection: which chains are learnt, by the scores of the true answer."""

    filter: Literal["none", "ppl", "gain", "clipped"] = Field(
        "ppl",
        description="keep by: nothing; perplexity (paper); how much the chain lowers the answer's "
        "loss; perplexity with each token's loss cut at `score.clip`",
    )
    quantile: Share = Field(
        0.5,
        description="share of sampled chains that pass: R is their quantile (paper: the median)",
    )
    threshold_sample: Count = Field(2300, description="candidates sampled for R (paper: 2,300)")
    threshold: float | None = Field(
        None, description="a fixed R instead of the quantile, as the filter measures"
    )
    top_m: Count | None = Field(
        None, description="the best m chains of each prompt instead of a threshold"
    )
    drop_leaks: bool = Field(
        True, description="reject chains that give away that the answer was known"
    )

    @model_validator(mode="after")
    def _one_way_to_choose(self) -> "RefineSection":
        if self.top_m is not None and self.threshold is not None:
            raise ValueError("refine: threshold and top_m exclude each other: set one of them")
        if self.filter == "none" and (self.top_m is not None or self.threshold is not None):
            raise ValueError("refine: filter none keeps every chain: unset threshold and top_m")
        if self.filter in ("ppl", "clipped") and self.threshold is not None and self.threshold <= 1:
            raise ValueError(f"refine.threshold: {self.threshold}: a perplexity is above 1")
        return self


class LoraSection(Section):
    """A low-rank adapter, merged into the weights when the model is saved."""

    rank: Count = Field(16, description="of the adapter's two factors")
    alpha: float = Field(32.0, gt=0, description="the update is scaled by alpha / rank")
    targets: tuple[str, ...] | None = Field(
        None, strict=False, min_length=1, description="module names; null = all linear layers"
    )


class SftSection(Section):
    """Eq. 2: next-token loss over chain and answer, on TRL's SFTTrainer."""

    num_examples: Count = Field(10_000, description="at most this many kept chains")
    epochs: float = Field(1.0, gt=0, description="passes over the kept chains (paper: 1)")
    max_tokens: Count | None = Field(
        None,
        description="tokens of completions to train on, chains repeated as needed, instead of "
        "epochs: equal budgets make runs comparable",
    )
    loss: Literal["token_mean", "sequence_sum"] = Field(
        "token_mean",
        description="what a batch's sum is divided by: its completion tokens, as TRL does, or its "
        "sequences (Eq. 2 as printed)",
    )
    learning_rate: float = Field(2e-5, gt=0, description="at its peak (paper: 1e-7)")
    batch_size: Count = Field(8, description="examples of a step, of all processes")
    trainable_layers: Count | None = Field(
        None, description="tune only the last n blocks; null = all weights"
    )
    lora: LoraSection | None = Field(None, description="tune an adapter; null = the weights")
    checkpoint_steps: Count = Field(
        100, description="a killed run resumes from the last checkpoint"
    )
    trainer: dict[str, Any] = Field(
        default_factory=dict, description="further fields of TRL's SFTConfig"
    )

    @model_validator(mode="after")
    def _layers_or_adapter(self) -> "SftSection":
        if self.lora is not None and self.trainable_layers is not None:
            raise ValueError("sft: lora trains no layers of the model: unset trainable_layers")
        return self
