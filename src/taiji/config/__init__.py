"""The recipe: one frozen tree, checked before any work starts."""

from taiji.config.align import AlignSection, CustomRewardSection, RewardsSection, WeightsSection
from taiji.config.data import DataSection, DateWindows, ShareWindows, SplitsSection
from taiji.config.recipe import (
    EvaluateSection,
    EvidenceTeacher,
    FeaturesSection,
    InferSection,
    OpenAITeacher,
    RankerSection,
    RankSection,
    Recipe,
    SftSection,
    SimulateSection,
    StudentSection,
    Teacher,
    TransformersTeacher,
)

__all__ = [
    "AlignSection",
    "CustomRewardSection",
    "DataSection",
    "DateWindows",
    "EvaluateSection",
    "EvidenceTeacher",
    "FeaturesSection",
    "InferSection",
    "OpenAITeacher",
    "RankSection",
    "RankerSection",
    "Recipe",
    "RewardsSection",
    "SftSection",
    "ShareWindows",
    "SimulateSection",
    "SplitsSection",
    "StudentSection",
    "Teacher",
    "TransformersTeacher",
    "WeightsSection",
]
