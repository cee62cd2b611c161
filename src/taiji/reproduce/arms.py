"""The arms of the paper's experiments: recipes of ours with a few settings changed, nothing else.

Every arm is a run of `taiji run` with the settings that stand here, and can be looked at, repeated
or changed as one. Arms of one world share data, student, budgets of tokens and steps, and seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import taiji
from taiji.errors import ConfigError

World = Literal["journey", "planted"]
Size = Literal["quick", "laptop", "large"]

WORLDS: Mapping[World, str] = {"journey": "reproduce.yaml", "planted": "planted.yaml"}
WORLD_TITLES: Mapping[World, str] = {
    "journey": "Complete Journey",
    "planted": "The planted world, whose truth is known",
}
LEAD = "popo"
"""The arm that runs to its report, with ranking and A/B test: whatever the others share is its."""

_POLICY_ALONE = ("infer.models=[policy]", "features.texts=[]")
"""What differs between arms: all else that their tables show is the lead's."""


@dataclass(frozen=True)
class Arm:
    """One run of a study.

    Attributes:
        name: Of the run's folder, after the world.
        settings: What it changes in the recipe of its world.
        until: Its last stage.
        rows: Which row of which table of the paper its last model fills.
    """

    name: str
    settings: Sequence[str]
    until: str
    rows: Mapping[str, str]


ARMS = (
    Arm(LEAD, ("align.weights.rule=popo",), "report", {"table4": "ORFT + POPO"}),
    Arm(
        "light",
        ("align.weights.rule=popo_light", *_POLICY_ALONE),
        "evaluate",
        {"table4": "ORFT + POPO-light"},
    ),
    Arm(
        "fixed",
        ("align.weights.rule=fixed", *_POLICY_ALONE),
        "evaluate",
        {"table4": "ORFT + GRPO, .5/.5"},
    ),
    Arm(
        "split",
        ("align.weights.rule=popo_split", *_POLICY_ALONE),
        "evaluate",
        {"table4": "ORFT + POPO without noise bias (ours)"},
    ),
    Arm(
        "tchebycheff",
        ("align.weights.rule=tchebycheff", *_POLICY_ALONE),
        "evaluate",
        {"table4": "ORFT + smooth Tchebycheff, half and half asked for (ours)"},
    ),
    Arm(
        "direct",
        (
            *("distill.mode=direct", "refine.filter=none", "infer.models=[sft]"),
            "align.steps=1",  # its policy is not looked at
            "features.texts=[]",
        ),
        "evaluate",
        {"table3": "Without RUPR: the teacher is not shown the truth"},
    ),
)

_ONE_SHORT_STEP = (
    *("align.steps=1", "align.prompts_per_step=2", "align.num_generations=2"),
    "infer.max_completion_tokens=40",  # a form that so little training never reached is cut off
)

_SIZES: Mapping[Size, Mapping[World, Sequence[str]]] = {
    "quick": {
        "journey": (
            *("data.num_sft=24", "data.num_rl=4", "data.num_test=4", "data.num_rank_users=4"),
            *("data.exposure_share=0.02", "sft.max_tokens=1500", *_ONE_SHORT_STEP),
            *("rank.seeds=1", "rank.arms=[base,both]"),
            *("encoder.catalogue_titles=1000", "evaluate.bootstrap=200", "features.bits=2"),
            *("rank.controls=[]", "abtest.enabled=false", "align.weights.eta=1.0"),
        ),
        "planted": (
            *("data.source.users=400", "data.num_sft=24", "data.num_rl=4", "data.num_test=4"),
            *("data.num_rank_users=4", "sft.max_tokens=1500", *_ONE_SHORT_STEP),
            *("features.texts=[policy]", "rank.texts=[policy]"),
            *("rank.arms=[base,both,match]", "rank.seeds=1", "rank.controls=[]"),
            *("features.bits=2", "evaluate.bootstrap=200"),
        ),
    },
    "laptop": {
        "journey": (),
        "planted": (
            *("data.num_sft=48", "data.num_rl=40", "data.num_test=40"),
            *("data.num_rank_users=40", "sft.max_tokens=4000", "align.steps=4"),
            *("features.texts=[policy]", "rank.texts=[policy]", "features.bits=4"),
            *("rank.arms=[base,both,match]", "rank.seeds=2", "abtest.enabled=true"),
        ),
    },
    "large": {
        "journey": (
            *("data.num_sft=600", "data.num_rl=200", "data.num_test=400"),
            *("data.num_rank_users=700", "sft.max_tokens=50000", "align.steps=100"),
            *("features.bits=6", "rank.seeds=5"),
        ),
        "planted": (
            *("data.num_sft=600", "data.num_rl=200", "data.num_test=400"),
            *("sft.max_tokens=50000", "align.steps=100", "abtest.enabled=true", "rank.seeds=5"),
            *("features.texts=[policy]", "rank.texts=[policy]"),
        ),
    },
}


def settings_of(world: World, size: Size, arm: Arm, further: Sequence[str]) -> list[str]:
    """All that is set for one arm; what stands later wins.

    Args:
        world: Which recipe.
        size: How much of everything.
        arm: Which run.
        further: What a person sets for all arms.
    """
    name = f"name={run_name(world, arm)}"
    return [*_SIZES[size][world], *further, *arm.settings, name]


def run_name(world: World, arm: Arm) -> str:
    """The folder of an arm."""
    return f"{world}-{arm.name}"


def recipe_of(world: World) -> Path:
    """The recipe of a world: inside an installed package, or in the repository's own folder.

    Raises:
        ConfigError: It lies in neither.
    """
    package = Path(taiji.__file__).parent
    places = [folder / "recipes" / WORLDS[world] for folder in (package, package.parents[1])]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise ConfigError(f"{places[-1]}: not there: install the package anew")
    return found
