"""The recipe: one frozen tree, a section for each concern, checked before any work starts.

Every setting lives here once, with its default, range and meaning. Settings that the paper
fixes say so; the paper's own numbers stand in `recipes/paper.yaml`. How a YAML file and
`section.key=value` overrides become this tree is in `taiji.recipes`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from taiji.config.align import AlignSection
from taiji.config.data import DataSection
from taiji.config.section import Count, Name, Section, Share


class StudentSection(Section):
    """The language model that is tuned: a folder, a Hub name, or `smollm2-135m-instruct`."""

    model: str = "smollm2-135m-instruct"
    max_prompt_tokens: Count = Field(
        1024, description="the oldest history is dropped beyond this (paper: 13,000)"
    )
    max_completion_tokens: Count = Field(
        128, description="chain of thought plus answer (paper: 2,048)"
    )


class EncoderSection(Section):
    """The text encoder behind Eq. 3, grounding and the features."""

    model: str = "all-minilm-l6-v2"
    batch_size: Count = 32
    catalogue_titles: Count = Field(
        8000, description="titles sold most so far, among which an answer is grounded and judged"
    )


class EvidenceTeacher(Section):
    """A deterministic writer that argues from facts in the prompt. Not a language model."""

    kind: Literal["evidence"] = "evidence"


class TransformersTeacher(Section):
    """A local model that writes the reasoning."""

    kind: Literal["transformers"]
    model: str = "smollm2-135m-instruct"
    temperature: float = Field(0.8, gt=0, le=2)
    max_new_tokens: Count = 96
    batch_size: Count = 32


class OpenAITeacher(Section):
    """Any endpoint that speaks the OpenAI chat protocol. The key comes from the environment."""

    kind: Literal["openai"]
    base_url: str = Field(pattern=r"^https?://")
    model: str
    api_key_env: str = Field("OPENAI_API_KEY", pattern=r"^[A-Z_][A-Z0-9_]*$")
    temperature: float = Field(0.8, ge=0, le=2)
    max_new_tokens: Count = 512
    concurrency: Count = 8
    timeout_seconds: float = Field(120, gt=0)
    max_retries: int = Field(5, ge=0)


Teacher = Annotated[
    EvidenceTeacher | TransformersTeacher | OpenAITeacher, Field(discriminator="kind")
]


class DistillSection(Section):
    """RUPR: the teacher, shown the true next item, writes k chains that lead to it."""

    teacher: Teacher = EvidenceTeacher()
    candidates: Count = Field(3, le=16, description="chains per example (paper: k = 3)")


class RefineSection(Section):
    """ORFT's selection: keep a chain iff the true answer's perplexity is below R (Eq. 1)."""

    scorer: str | None = Field(None, description="model that scores; null = the student before SFT")
    quantile: Share = Field(
        0.5, description="R as a quantile of sampled perplexities (paper: the median)"
    )
    threshold_sample: Count = Field(2300, description="candidates sampled for R")
    max_perplexity: float | None = Field(
        None, gt=1, description="a fixed R instead of the quantile"
    )
    drop_leaks: bool = Field(
        True, description="reject chains that give away that the answer was known"
    )


class SftSection(Section):
    """Eq. 2: next-token loss over chain and answer, on TRL's SFTTrainer."""

    num_examples: Count = Field(10_000, description="at most this many kept chains")
    epochs: float = Field(1.0, gt=0)
    learning_rate: float = Field(2e-5, gt=0)
    batch_size: Count = 8
    trainable_layers: Count | None = Field(
        None, description="tune only the last n blocks; null = all weights"
    )
    checkpoint_steps: Count = Field(
        100, description="a killed run resumes from the last checkpoint"
    )
    trainer: dict[str, Any] = Field(
        default_factory=dict, description="further fields of TRL's SFTConfig"
    )


class RankerSection(Section):
    """The CTCVR ranking model: two towers over the entire space, target attention."""

    dim: Count = 16
    hidden: tuple[int, ...] = Field((128, 64), strict=False, min_length=1)
    own_items: Count = Field(50, description="length of the user's own sequence")
    epochs: Count = 1
    batch_size: Count = 512
    learning_rate: float = Field(2e-3, gt=0)


class SimulateSection(Section):
    """The offline simulation of Eq. 4: a reward ranker, its score pool, a frozen normaliser."""

    pool_pairs: Count = Field(
        20_000, ge=100, description="user-item pairs whose scores fit the normaliser"
    )
    normaliser: Literal["minmax", "quantile", "winsorised", "log", "rank", "group_minmax"] = Field(
        "minmax", description="minmax as in the paper; docs/rewards.md compares them all"
    )
    popularity_discount: Share = Field(
        0.0, description="lambda: CTCVR over the item's mean to this power; 1 = the full lift"
    )


class InferSection(Section):
    """Which tuned models write, and how."""

    models: tuple[Literal["untuned", "sft", "policy"], ...] = Field(
        ("untuned", "sft", "policy"), strict=False, description="judged on the test examples"
    )
    temperature: float = Field(0.0, ge=0, le=2, description="0 = greedy")
    batch_size: Count = 32


class FeaturesSection(Section):
    """Intra-user codes by product quantisation; cross-user sequence of the nearest user."""

    sub_vectors: Count = Field(8, description="M: must divide the encoder's dimension")
    bits: int = Field(6, ge=2, le=12, description="2^bits codes per sub-vector")


class RankSection(Section):
    """The comparison: the ranking model with and without the language features."""

    arms: tuple[Literal["base", "intra", "cross", "both"], ...] = Field(
        ("base", "intra", "cross", "both"), strict=False, min_length=1
    )
    seeds: Count = 1


class EvaluateSection(Section):
    """The paper's metrics, each with an interval."""

    hit_rate_at: tuple[int, ...] = Field((50, 100), strict=False, min_length=1)
    bootstrap: int = Field(1000, ge=100, description="resamples of users for the intervals")


class ReportSection(Section):
    """What leaves the machine in a report."""

    pseudonym_key_env: str = Field(
        "TAIJI_PSEUDONYM_KEY",
        pattern=r"^[A-Z_][A-Z0-9_]*$",
        description="variable with the key of user pseudonyms; unset: a key file made once",
    )


class Recipe(Section):
    """All settings of one run, stage by stage."""

    name: Name
    seed: int = Field(17, ge=0)
    engine: Literal["duckdb", "spark"] = Field(
        "duckdb", description="what reads and joins the log: in process, or Spark (extra `spark`)"
    )
    engine_memory_gib: float = Field(
        1.5, ge=0.25, description="what the engine may hold before it writes to disk"
    )
    data: DataSection = DataSection()
    student: StudentSection = StudentSection()
    encoder: EncoderSection = EncoderSection()
    distill: DistillSection = DistillSection()
    refine: RefineSection = RefineSection()
    sft: SftSection = SftSection()
    ranker: RankerSection = RankerSection()
    simulate: SimulateSection = SimulateSection()
    align: AlignSection = AlignSection()
    infer: InferSection = InferSection()
    features: FeaturesSection = FeaturesSection()
    rank: RankSection = RankSection()
    evaluate: EvaluateSection = EvaluateSection()
    report: ReportSection = ReportSection()

    @model_validator(mode="after")
    def _normaliser_fits_rule(self) -> "Recipe":
        groupwise = self.simulate.normaliser == "group_minmax"
        if groupwise and self.align.weights.rule == "popo_light":
            raise ValueError(
                "simulate.normaliser: group_minmax makes sigma / |mu| of Eq. 7 about 1 whatever "
                "the rollouts are: take another normaliser or another align.weights.rule"
            )
        return self
