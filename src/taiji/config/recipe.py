"""The recipe: one frozen tree, a section for each concern, checked before any work starts.

Every setting lives here once, with its default, range and meaning. Settings that the paper
fixes say so; the paper's own numbers stand in `recipes/paper.yaml`. How a YAML file and
`section.key=value` overrides become this tree is in `taiji.config.loading`.
"""

from collections.abc import Iterator
from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from taiji.config.abtest import AbtestSection
from taiji.config.align import AlignSection
from taiji.config.compute import Compute, LocalCompute
from taiji.config.data import DataSection
from taiji.config.engines import Engine, TransformersEngine
from taiji.config.lift import CeilingSection, MatchSection
from taiji.config.ranking import RankerSection, RankSection, SimulateSection
from taiji.config.reasoning import RefineSection, ScoreSection, SftSection
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
from taiji.config.serving import ServeSection
from taiji.config.teachers import EvidenceTeacher, Teacher


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


class HeadSection(Section):
    """RPORec's recommendation head, trained on the student's own chains (docs/related.md)."""

    enabled: bool = Field(
        False, description="train it before alignment; `evaluate` then judges its lists too"
    )
    dim: int = Field(128, ge=4, multiple_of=4, description="size of its vectors")
    epochs: Count = Field(10, description="at most; it stops where users held back gain no more")
    learning_rate: float = Field(1e-3, gt=0, description="of AdamW")
    negatives: Count = Field(99, description="items that the true one is ranked among")


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


class FeaturesSection(Section):
    """Intra-user codes by a quantiser; cross-user sequence of the nearest other user."""

    texts: tuple[ModelName, ...] = Field(
        (POLICY,),
        strict=False,
        description="whose texts become features; others are ablations; none: the run ends with "
        "the judgement of its texts, and nothing is ranked",
    )
    quantiser: Literal["pq", "opq", "rq"] = Field(
        "pq", description="product (paper), product after a learned rotation, or residual"
    )
    sub_vectors: Count = Field(8, description="M codes a user; pq, opq: divides the dimension")
    bits: int = Field(6, ge=2, le=12, description="2^bits values of each code")
    neighbours: Literal["exact", "ivf", "hnsw"] = Field(
        "exact", description="search for the nearest user; the two others report their recall"
    )
    match: MatchSection | None = Field(
        None, description="make what the arm `match` of `rank` compares; null = not"
    )
    erased_users: PathText | None = Field(
        None,
        description="text file, a user id a line: they get no features and lend nothing",
    )

    def named(self) -> Iterator[Named]:
        """The list of erased users."""
        if self.erased_users is not None:
            yield Named("file", "erased_users", self.erased_users)

    @field_validator("texts")
    @classmethod
    def _with_the_policy(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        if (texts and POLICY not in texts) or len(set(texts)) < len(texts):
            raise ValueError("names each model once, policy among them, or none at all")
        return texts


_WRITERS = frozenset(
    {
        *get_args(ModelName),
        *("most_popular", "most_popular_new", "most_frequent", "last_bought"),
    }
)


class GuidedSection(Section):
    """Promise: a scorer of prefixes guides a beam over categories and titles (docs/related.md)."""

    keep: Count = Field(4, description="K, prefixes that survive at each depth")
    shown: Count = Field(16, description="K+, the likeliest children, of which the scorer keeps K")
    epochs: Count = Field(20, description="of the scorer, at most")

    @model_validator(mode="after")
    def _a_choice(self) -> "GuidedSection":
        if self.shown <= self.keep:
            raise ValueError("shown must be above keep, or the scorer has nothing to choose from")
        return self


class EvaluateSection(Section):
    """The paper's metrics, each with an interval; and lists of titles beside the answers."""

    hit_rate_at: tuple[int, ...] = Field(
        (50, 100),
        strict=False,
        min_length=1,
        description="K of Title_Hit-Rate@K (paper: 50 and 100)",
    )
    bootstrap: int = Field(1000, ge=100, description="resamples of users for the intervals")
    models: dict[Name, str] = Field(
        default_factory=dict,
        description="further models to ask and judge, each a folder or a Hub name, under a name",
    )
    candidates: int = Field(
        0,
        ge=0,
        le=1024,
        description="titles an example of which each model says how likely they are, for answers "
        "that know the catalogue; 0 = answers as they come",
    )
    calibration: Count = Field(
        200, description="alignment examples on which such answers are weighed against the log"
    )

    guided: GuidedSection | None = Field(
        None, description="lists by a beam that a scorer guides; null = none. Needs `candidates`"
    )

    def named(self) -> Iterator[Named]:
        """The further models that are asked."""
        for name, model in self.models.items():
            yield Named("model", f"models.{name}", model)

    @field_validator("models")
    @classmethod
    def _names_of_their_own(cls, models: dict[str, str]) -> dict[str, str]:
        taken = sorted(set(models) & _WRITERS)
        if taken:
            raise ValueError(f"{', '.join(taken)}: a name of every table: choose another")
        return models

    @model_validator(mode="after")
    def _models_are_asked(self) -> "EvaluateSection":
        if self.guided is not None and not self.candidates:
            raise ValueError("guided: no model is asked how likely titles are: set candidates too")
        return self


class ReportSection(Section):
    """What leaves the machine in a report."""

    pseudonym_key_env: str = Field(
        "TAIJI_PSEUDONYM_KEY",
        pattern=r"^[A-Z_][A-Z0-9_]*$",
        description="variable with the key of user pseudonyms; unset: a key file made once",
    )


class Recipe(Section):
    """All settings of one run, stage by stage."""

    name: Name = Field(description="of the run: its folder below `--runs`")
    seed: int = Field(
        17,
        ge=0,
        le=2_000_000_000,
        description="of every draw: samples, initial weights, rollouts, resamples",
    )
    engine: Literal["duckdb", "spark"] = Field(
        "duckdb", description="what reads and joins the log: in process, or Spark (extra `spark`)"
    )
    engine_memory_gib: float = Field(
        1.5, ge=0.25, description="what the engine may hold before it writes to disk"
    )
    compute: Compute = Field(
        LocalCompute(), description="where distillation, scoring, inference and embedding run"
    )
    data: DataSection = DataSection()
    student: StudentSection = StudentSection()
    encoder: EncoderSection = EncoderSection()
    distill: DistillSection = DistillSection()
    score: ScoreSection = ScoreSection()
    refine: RefineSection = RefineSection()
    sft: SftSection = SftSection()
    ranker: RankerSection = RankerSection()
    simulate: SimulateSection = SimulateSection()
    head: HeadSection = HeadSection()
    align: AlignSection = AlignSection()
    infer: InferSection = InferSection()
    features: FeaturesSection = FeaturesSection()
    rank: RankSection = RankSection()
    ceiling: CeilingSection = CeilingSection()
    abtest: AbtestSection = AbtestSection()
    evaluate: EvaluateSection = EvaluateSection()
    report: ReportSection = ReportSection()
    serve: ServeSection = ServeSection()

    def longest_text(self) -> int:
        """Tokens that a model may write when it is asked, chain and answer."""
        return self.infer.max_completion_tokens or self.student.max_completion_tokens

    @model_validator(mode="after")
    def _ranked_texts_have_features(self) -> "Recipe":
        without = [text for text in self.rank.texts if text not in self.features.texts]
        if without and self.features.texts:  # without any text nothing is ranked
            raise ValueError(
                f"rank.texts: {', '.join(without)}: no features are made of that text: add it to "
                "features.texts"
            )
        return self

    @model_validator(mode="after")
    def _given_texts_are_the_only_ones(self) -> "Recipe":
        if self.infer.texts_from is not None and self.features.texts != ("policy",):
            raise ValueError(
                "infer.texts_from: given texts stand in place of the policy's, and nobody else "
                "writes: leave features.texts at [policy]"
            )
        if self.infer.texts_from is not None and self.infer.likelihoods:
            raise ValueError(
                "infer.likelihoods: with infer.texts_from no language model is asked: leave one out"
            )
        return self

    @field_validator("compute", mode="before")
    @classmethod
    def _kind_may_be_left_out(cls, value: object) -> object:
        return {"kind": "local", **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _steps_can_be_shared(self) -> "Recipe":
        training = self.compute.training
        training.share("sft.batch_size", self.sft.batch_size)
        training.share("align.prompts_per_step", self.align.prompts_per_step)
        return self

    @model_validator(mode="after")
    def _engines_ask_somebody(self) -> "Recipe":
        known = {*get_args(ModelName), *self.evaluate.models}
        if strangers := sorted(set(self.infer.engines) - known):
            raise ValueError(
                f"infer.engines: {', '.join(strangers)}: no such model: one of "
                f"{', '.join(sorted(known))}"
            )
        return self

    @model_validator(mode="after")
    def _a_head_that_is_paid_by_is_trained(self) -> "Recipe":
        if not self.head.enabled and any(r.kind == "head" for r in self.align.rewards.more):
            raise ValueError("align.rewards.more: head: there is none: set head.enabled: true")
        return self

    @model_validator(mode="after")
    def _a_distance_between_places(self) -> "Recipe":
        source = self.data.source
        placed = source.kind == "tables" and source.items.latitude is not None
        if not placed and any(r.kind == "distance" for r in self.align.rewards.more):
            raise ValueError(
                "align.rewards.more: distance: nobody knows where items are: map "
                "data.source.items.latitude and longitude of a source of kind tables, or leave "
                "distance out"
            )
        return self

    @model_validator(mode="after")
    def _something_to_match(self) -> "Recipe":
        if "match" in self.rank.arms and self.features.match is None:
            raise ValueError("rank.arms: match: nothing to compare: set features.match: {}")
        if self.infer.likelihoods and self.features.match is None:
            raise ValueError("infer.likelihoods: nothing uses them: set features.match: {}")
        return self
