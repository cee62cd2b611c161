"""The rewards that a policy is paid, built by kind: the one place that knows them all."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pyarrow as pa

from taiji.alignment.rewards.custom import OwnReward, import_rewards
from taiji.alignment.rewards.form import CleanReward
from taiji.alignment.rewards.head import HeadReward, load_heads, true_items
from taiji.alignment.rewards.reward import OURS, Judged, Reward
from taiji.alignment.rewards.value import ValueReward
from taiji.config import (
    CleanRewardSection,
    DistanceRewardSection,
    HeadRewardSection,
    RewardsSection,
    ValueRewardSection,
)
from taiji.language.encode import TextEncoder
from taiji.language.encoder_caches import CachedEncoder
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext
from taiji.stages.parts.distance_rewards import distance_reward
from taiji.stages.parts.value_rewards import value_reward


@dataclass(frozen=True)
class RunSoFar:
    """What the run has made by the time its policy is paid.

    Attributes:
        ctx: Of the stage that pays.
        logs: The log.
        examples: Rows of `schema.EXAMPLES` that the policy answers.
        catalogue: The titles that answers may name.
        encoder: Of what the policy writes.
    """

    ctx: StageContext
    logs: Constructed
    examples: pa.Table
    catalogue: pa.Table
    encoder: TextEncoder


def paid_rewards(section: RewardsSection, run: Callable[[], RunSoFar]) -> dict[str, Reward]:
    """Build every reward of a recipe, by name and in the order of `RewardsSection.names`.

    Args:
        section: Which of them.
        run: Called if a reward needs more than the rollouts.

    Raises:
        ConfigError: A function of the user's own cannot be imported.
        DataError: An artifact that a reward needs is damaged.
    """
    rewards: dict[str, Reward] = {name: Judged(name) for name in OURS if name in section.names}
    for name, function in import_rewards(section.custom).items():
        rewards[name] = OwnReward(function)
    for more in section.more:
        match more:
            case CleanRewardSection():
                rewards[more.name] = CleanReward(more.gated)
            case HeadRewardSection():
                rewards[more.name] = _head(more, run())
            case ValueRewardSection():
                rewards[more.name] = _value(more, run())
            case DistanceRewardSection():
                rewards[more.name] = distance_reward(run().logs, run().examples)
    return rewards


def watchers(rewards: dict[str, Reward]) -> dict[str, Reward]:
    """Who judges what a policy is paid for and pays nothing: the alarm of a reward, by name."""
    return {
        name: replace(reward, watching=True)
        for name, reward in rewards.items()
        if isinstance(reward, HeadReward)
    }


def _value(section: ValueRewardSection, run: RunSoFar) -> ValueReward:
    simulated = run.ctx.inputs.get("simulate")
    return value_reward(section.normaliser, run.logs, run.examples, simulated)


def _head(section: HeadRewardSection, run: RunSoFar) -> HeadReward:
    recipe = run.ctx.recipe
    encoders = (run.encoder, CachedEncoder(run.encoder))
    asked = true_items(
        *(run.examples, run.logs.items, run.catalogue, encoders),
        negatives=recipe.head.negatives,
        seed=recipe.seed,
    )
    heads = load_heads(run.ctx.inputs["head"] / "heads")
    return HeadReward(heads, asked, run.encoder, section.gated)
