"""The recipe: one frozen tree, a section for each concern, checked before any work starts.

Every setting lives here once, with its default, range and meaning. Settings that the paper
fixes say so; the paper's own numbers stand in `recipes/paper.yaml`. How a YAML file and
`section.key=value` overrides become this tree is in `taiji.recipes`.
"""

from datetime import date
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from taiji.config_data import Section
from taiji.config_sources import CompleteJourneySource, Source
from taiji.config_text import TextSection

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class DateWindows(Section):
    """Windows of the log by date: each begins at midnight and ends where the next begins."""

    kind: Literal["dates"] = "dates"
    history: date = Field(date(2016, 12, 26), strict=False, description="only looked back on")
    reward: date = Field(
        date(2017, 2, 20), strict=False, description="SFT targets; the reward ranker learns"
    )
    rl: date = Field(date(2017, 8, 7), strict=False, description="alignment targets")
    ranker: date = Field(
        date(2017, 9, 18), strict=False, description="the ranking model learns with features"
    )
    test: date = Field(date(2017, 11, 13), strict=False, description="everything is judged")
    end: date = Field(date(2018, 1, 1), strict=False, description="the day after the last")

    @model_validator(mode="after")
    def _in_order(self) -> "DateWindows":
        starts = (self.history, self.reward, self.rl, self.ranker, self.test, self.end)
        if any(first >= then for first, then in zip(starts, starts[1:], strict=False)):
            raise ValueError("history < reward < rl < ranker < test < end must hold")
        return self


class ShareWindows(Section):
    """Windows of the log as shares of its time range, rounded to whole days."""

    kind: Literal["shares"]
    history: Share = Field(0.15, gt=0)
    reward: Share = Field(0.45, gt=0)
    rl: Share = Field(0.11, gt=0)
    ranker: Share = Field(0.15, gt=0)
    test: Share = Field(0.14, gt=0)

    @model_validator(mode="after")
    def _whole(self) -> "ShareWindows":
        total = self.history + self.reward + self.rl + self.ranker + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the five shares must sum to 1, not {total:g}")
        return self


class SplitsSection(Section):
    """When: five windows that follow one another, so that no stage trains on what judges it."""

    timezone: str = Field("America/New_York", description="whose midnights and evenings count")
    period_days: Count = Field(7, description="at most one target of a user in so many days")
    windows: DateWindows | ShareWindows = Field(DateWindows(), discriminator="kind")

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"no time zone {name!r}: use a name such as Europe/Berlin") from error
        return name


class DataSection(Section):
    """Stage 1: which log, how much of it, and what a prompt may see."""

    source: Source = CompleteJourneySource()
    text: TextSection = TextSection()
    history_items: Count = Field(50, description="most recent interactions in a prompt (paper: 50)")
    history_days: Count | None = Field(
        None, description="what lies further back than this is not told; null = all of the log"
    )
    neighbour_items: Count = Field(
        100, description="borrowed interactions of the neighbour (paper: 100)"
    )
    target: Literal["any", "novel"] = Field(
        "any",
        description="SFT and RL targets: any line of the next basket, or a title new to the user",
    )
    target_items: Literal["one", "basket"] = Field(
        "one", description="what counts as foreseen: the target alone, or all of its basket"
    )
    splits: SplitsSection = SplitsSection()
    min_history: Count = Field(10, description="fewer interactions before it make no target")
    long_tail: Count = Field(100, description="fewer interactions before it mark an example")
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
    normaliser: Literal["minmax", "quantile", "winsorised", "log", "rank", "group_minmax"] = Field(
        "minmax", description="minmax as in the paper; docs/rewards.md compares them all"
    )
    popularity_discount: Share = Field(
        0.0, description="lambda: CTCVR over the item's mean to this power; 1 = the full lift"
    )


class CustomRewardSection(Section):
    """A reward of the user's own: code that the recipe names, imported and called."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    path: str = Field(
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
        description="package.module:function",
    )


class RewardsSection(Section):
    """Which rewards the policy is paid, and how an answer is taken for an item."""

    semantic: bool = Field(True, description="Eq. 3")
    preference: bool = Field(True, description="Eq. 4")
    format: Literal["off", "binary", "graded"] = Field(
        "off", description="all four parts of the form, or a quarter for each"
    )
    custom: tuple[CustomRewardSection, ...] = Field((), strict=False)
    scores: str | None = Field(
        None, description="Parquet or CSV of user_id, item_id, score[, as_of] instead of the ranker"
    )
    scores_missing: Literal["floor", "item_mean", "refuse"] = Field(
        "floor", description="what a pair that the scores lack gets"
    )
    term_overlap: float | None = Field(
        0.6, gt=0, le=1, description="title words in common that name an item; null = not enough"
    )
    cosine_floor: float = Field(
        0.5, ge=-1, le=1, description="an answer further from every item names none"
    )
    soft_items: Count = Field(1, description="m nearest items that an answer stands for")
    soft_temperature: float = Field(0.02, gt=0, description="tau of their weights")
    gate: tuple[float, float] | None = Field(
        None, strict=False, description="cosines at which the preference starts and is paid whole"
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The rewards that are paid, in their order."""
        paid = {
            "semantic": self.semantic,
            "preference": self.preference,
            "format": self.format != "off",
        }
        return (
            *(name for name, is_paid in paid.items() if is_paid),
            *(c.name for c in self.custom),
        )

    @model_validator(mode="after")
    def _work_together(self) -> "RewardsSection":
        taken = ["semantic", "preference", "format", *(custom.name for custom in self.custom)]
        if len(set(taken)) < len(taken):
            raise ValueError("custom rewards need names of their own")
        if not self.names:
            raise ValueError("at least one reward must be paid")
        if self.gate is not None and not self.gate[0] < self.gate[1]:
            raise ValueError("gate: the lower cosine stands first")
        if self.soft_items > 1 and self.gate is None:
            raise ValueError(
                "soft_items above 1 pays idle talk: set gate too, such as [0.5, 0.75] for MiniLM"
            )
        return self


class WeightsSection(Section):
    """How the rewards are weighed, and how the weights move (`alignment.weight_rule`)."""

    rule: Literal["popo", "popo_split", "popo_light", "fixed", "mgda", "cagrad"] = Field(
        "popo", description="Eq. 5-6; the same without noise bias; Eq. 7; none; TorchJD's"
    )
    eta: float = Field(0.1, gt=0, description="eta of Eq. 5 (ours; the paper gives none)")
    mu: float = Field(1.0, gt=0, description="mu of Eq. 5 (ours; the paper gives none)")
    initial: dict[str, float] | None = Field(
        None, description="where the weights start, by reward; null = uniform"
    )
    act_on: Literal["rewards", "advantages"] = Field(
        "rewards", description="mix rewards (Eq. 9), or each reward's own advantages (as in GDPO)"
    )
    normalise: Literal["none", "trace"] = Field(
        "none", description="divide I by the sum of the squared gradient norms, or not"
    )
    max_log_step: float | None = Field(
        None, gt=0, description="the most that Eq. 5 may move log w in a step; null = no limit"
    )
    floor: float = Field(0.0, ge=0, lt=1, description="no weight falls below it")
    smoothing: float = Field(
        0.0, ge=0, lt=1, description="decay of the moving average of I, or of the weights"
    )
    leak: Share = Field(0.0, description="share by which log w returns to its start in each step")
    every: Count = Field(1, description="move the weights at each n-th step only")
    warmup_steps: int = Field(0, ge=0, description="keep the initial weights for so many steps")

    @property
    def scheme(self) -> str:
        """The rule and what it acts on, in a word; fixed weights of advantages are `gdpo`."""
        if self.act_on == "rewards":
            return self.rule
        return "gdpo" if self.rule == "fixed" else f"{self.rule} on advantages"

    @field_validator("initial")
    @classmethod
    def _on_the_simplex(cls, initial: dict[str, float] | None) -> dict[str, float] | None:
        if initial is not None:
            weights = initial.values()
            if not weights or min(weights) <= 0 or abs(sum(weights) - 1) > 1e-6:
                raise ValueError("needs positive weights that sum to 1")
        return initial


class AlignSection(Section):
    """Stage 3: GRPO (Eq. 8) on rewards mixed (Eq. 9) with weights of Eq. 5-6 or Eq. 7."""

    weights: WeightsSection = WeightsSection()
    rewards: RewardsSection = RewardsSection()
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

    @model_validator(mode="after")
    def _weights_fit(self) -> "AlignSection":
        names, weights = self.rewards.names, self.weights
        initial = weights.initial or dict.fromkeys(names, 1 / len(names))
        if set(initial) != set(names):
            raise ValueError(f"weights.initial needs one weight for each of {', '.join(names)}")
        if weights.floor * len(names) >= 1 or weights.floor > min(initial.values()):
            raise ValueError(
                f"weights.floor must be below 1 / {len(names)} and no initial weight below it"
            )
        if weights.rule != "fixed" and weights.warmup_steps >= self.steps:
            raise ValueError("weights.warmup_steps must be fewer than steps, or no weight moves")
        return self


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
        1.0, ge=0.25, description="what the engine may hold before it writes to disk"
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
