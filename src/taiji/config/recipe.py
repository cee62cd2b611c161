"""The recipe: one frozen tree, a section for each concern, checked before any work starts.

Every setting lives here once, with its default, range and meaning. Settings that the paper
fixes say so; the paper's own numbers stand in `recipes/paper.yaml`. How a YAML file and
`section.key=value` overrides become this tree is in `taiji.config.loading`.
"""

from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from taiji.config.abtest import AbtestSection
from taiji.config.align import AlignSection
from taiji.config.compute import Compute, LocalCompute
from taiji.config.data import DataSection
from taiji.config.evaluate import EvaluateSection, ReportSection
from taiji.config.features import FeaturesSection
from taiji.config.head import HeadSection
from taiji.config.infer import InferSection
from taiji.config.language import EncoderSection, StudentSection
from taiji.config.lift import CeilingSection
from taiji.config.ranking import RankerSection, RankSection, SimulateSection
from taiji.config.reasoning import DistillSection, RefineSection, ScoreSection, SftSection
from taiji.config.section import POLICY, PROMPT, ModelName, Name, Section
from taiji.config.serving import ServeSection


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
        written = set(self.features.texts) - {PROMPT}
        if self.infer.texts_from is not None and written != {POLICY}:
            raise ValueError(
                "infer.texts_from: given texts stand in place of the policy's, and no other model "
                "writes: leave features.texts at [policy] or [policy, prompt]"
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
