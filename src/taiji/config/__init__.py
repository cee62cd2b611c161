"""The recipe: one frozen tree, checked before any work starts."""

from taiji.config.abtest import AbtestSection
from taiji.config.align import AlignSection, CustomRewardSection, RewardsSection, WeightsSection
from taiji.config.compute import Compute, LocalCompute, RayCompute
from taiji.config.data import DataSection, DateWindows, ShareWindows, SplitsSection
from taiji.config.lift import CeilingSection, MatchSection
from taiji.config.ranking import BoostingSection, RankerSection, RankSection, SimulateSection
from taiji.config.reasoning import LoraSection, RefineSection, SftSection
from taiji.config.recipe import (
    EncoderSection,
    EvaluateSection,
    FeaturesSection,
    InferSection,
    Recipe,
    StudentSection,
)
from taiji.config.section import POLICY, SFT, UNTUNED, ModelName
from taiji.config.teachers import (
    BudgetSection,
    EndpointSection,
    EvidenceTeacher,
    OpenAITeacher,
    RetrySection,
    Teacher,
    TransformersTeacher,
    VllmTeacher,
)

__all__ = [
    "POLICY",
    "SFT",
    "UNTUNED",
    "AbtestSection",
    "AlignSection",
    "BoostingSection",
    "BudgetSection",
    "CeilingSection",
    "Compute",
    "CustomRewardSection",
    "DataSection",
    "DateWindows",
    "EncoderSection",
    "EndpointSection",
    "EvaluateSection",
    "EvidenceTeacher",
    "FeaturesSection",
    "InferSection",
    "LocalCompute",
    "LoraSection",
    "MatchSection",
    "ModelName",
    "OpenAITeacher",
    "RankSection",
    "RankerSection",
    "RayCompute",
    "Recipe",
    "RefineSection",
    "RetrySection",
    "RewardsSection",
    "SftSection",
    "ShareWindows",
    "SimulateSection",
    "SplitsSection",
    "StudentSection",
    "Teacher",
    "TransformersTeacher",
    "VllmTeacher",
    "WeightsSection",
]
