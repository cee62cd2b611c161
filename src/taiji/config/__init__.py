"""The recipe: one frozen tree, checked before any work starts."""

from taiji.config.abtest import AbtestSection
from taiji.config.align import AlignSection, WeightsSection
from taiji.config.compute import ONE_PROCESS, Compute, LocalCompute, RayCompute, TrainingCompute
from taiji.config.data import DataSection, DateWindows, ShareWindows, SplitsSection
from taiji.config.engines import (
    BudgetSection,
    EndpointSection,
    Engine,
    OpenAIEngine,
    RetrySection,
    TransformersEngine,
    VllmEngine,
)
from taiji.config.evaluate import EvaluateSection, GuidedSection
from taiji.config.features import FeaturesSection
from taiji.config.head import HeadSection
from taiji.config.infer import InferSection
from taiji.config.language import EncoderSection, StudentSection
from taiji.config.lift import CeilingSection, MatchSection
from taiji.config.ranking import (
    BoostingSection,
    KamlSection,
    RankerSection,
    RankSection,
    RqSection,
    SimulateSection,
    ValueSection,
)
from taiji.config.reasoning import LoraSection, RefineSection, SftSection
from taiji.config.recipe import Recipe
from taiji.config.rewards import (
    CleanRewardSection,
    CustomRewardSection,
    DistanceRewardSection,
    HeadRewardSection,
    RewardsSection,
    ValueRewardSection,
)
from taiji.config.section import POLICY, PROMPT, SFT, UNTUNED, ModelName, TextName
from taiji.config.teachers import (
    EvidenceTeacher,
    OpenAITeacher,
    Teacher,
    TransformersTeacher,
    VllmTeacher,
)

__all__ = [
    "ONE_PROCESS",
    "POLICY",
    "PROMPT",
    "SFT",
    "UNTUNED",
    "AbtestSection",
    "AlignSection",
    "BoostingSection",
    "BudgetSection",
    "CeilingSection",
    "CleanRewardSection",
    "Compute",
    "CustomRewardSection",
    "DataSection",
    "DateWindows",
    "DistanceRewardSection",
    "EncoderSection",
    "EndpointSection",
    "Engine",
    "EvaluateSection",
    "EvidenceTeacher",
    "FeaturesSection",
    "GuidedSection",
    "HeadRewardSection",
    "HeadSection",
    "InferSection",
    "KamlSection",
    "LocalCompute",
    "LoraSection",
    "MatchSection",
    "ModelName",
    "OpenAIEngine",
    "OpenAITeacher",
    "RankSection",
    "RankerSection",
    "RayCompute",
    "Recipe",
    "RefineSection",
    "RetrySection",
    "RewardsSection",
    "RqSection",
    "SftSection",
    "ShareWindows",
    "SimulateSection",
    "SplitsSection",
    "StudentSection",
    "Teacher",
    "TextName",
    "TrainingCompute",
    "TransformersEngine",
    "TransformersTeacher",
    "ValueRewardSection",
    "ValueSection",
    "VllmEngine",
    "VllmTeacher",
    "WeightsSection",
]
