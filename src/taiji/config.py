"""The recipe: one frozen tree, a section for each concern, checked before any work starts.

Every setting lives here once, with its default, range and meaning. Settings that the paper
fixes say so; the paper's own numbers stand in `recipes/paper.yaml`. How a YAML file and
`section.key=value` overrides become this tree is in `taiji.recipes`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Frozen, strict, and without room for unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataSection(Section):
    """Stage 1: which log, how much of it, and what a prompt may see."""

    source: Literal["complete_journey"] = "complete_journey"
    history_items: Count = Field(50, description="most recent interactions in a prompt (paper: 50)")
    neighbour_items: Count = Field(
        100, description="borrowed interactions of the neighbour (paper: 100)"
    )
    target: Literal["any", "novel"] = Field(
        "any",
        description="SFT and RL targets: any line of the next basket, or a title new to the user",
    )
    num_sft: Count = Field(1000, description="examples for distillation and SFT")
    num_rl: Count = Field(200, description="examples for alignment")
    num_test: Count = Field(500, description="examples that judge the language model")
    num_rank_users: Count = Field(500, description="users whose text becomes ranking features")
    exposure_share: Share = Field(
        0.25, gt=0, description="share of exposures kept, by a hash that ignores labels"
    )
    holdout_share: Share = Field(
        0.1, description="users that SFT, RL and the reward never see, by hash"
    )


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
    normaliser: Literal["minmax", "quantile"] = Field(
        "minmax", description="minmax as in the paper, or bounds [0, 99.9 % quantile]"
    )


class AlignSection(Section):
    """Stage 3: GRPO (Eq. 8) on rewards mixed (Eq. 9) with weights of Eq. 5-6 or Eq. 7."""

    rule: Literal["popo", "popo_light", "fixed"] = "popo"
    eta: float = Field(0.1, gt=0, description="eta of Eq. 5 (ours; the paper gives none)")
    mu: float = Field(1.0, gt=0, description="mu of Eq. 5 (ours; the paper gives none)")
    initial_weights: tuple[float, ...] = Field(
        (0.5, 0.5), strict=False, description="semantic, preference"
    )
    steps: Count = 100
    prompts_per_step: Count = 8
    num_generations: int = Field(4, ge=2, description="rollouts per prompt (paper: G = 4)")
    learning_rate: float = Field(1e-5, gt=0)
    beta: float = Field(0.0, ge=0, description="KL weight of Eq. 8 (ours; the paper gives none)")
    temperature: float = Field(1.0, gt=0, le=2)
    trainable_layers: Count | None = Field(
        None, description="tune only the last n blocks; null = all weights"
    )
    checkpoint_steps: Count = Field(50, description="a killed run resumes from the last checkpoint")
    trainer: dict[str, Any] = Field(
        default_factory=dict, description="further fields of TRL's GRPOConfig"
    )

    @field_validator("initial_weights")
    @classmethod
    def _on_the_simplex(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if len(weights) != 2 or min(weights) <= 0 or abs(sum(weights) - 1) > 1e-6:
            raise ValueError("needs two positive weights, semantic and preference, that sum to 1")
        return weights


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


class Recipe(Section):
    """All settings of one run, stage by stage."""

    name: Name
    seed: int = Field(17, ge=0)
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
