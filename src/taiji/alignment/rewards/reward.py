"""What a reward is: judged rollouts in, one number or None for each out.

Every reward that the policy is paid goes through this one door: those of the paper, those of
related systems and the user's own. `stages.parts.paid_rewards` builds them by kind, from the recipe
and what the run has made so far. Rules that mix rewards need nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from taiji.alignment.rewards.grounding import Rung
from taiji.language.completions import Status

OURS = ("semantic", "preference", "format")
"""Rewards that are judged of every rollout, whether they are paid or not."""


@dataclass(frozen=True)
class Rollout:
    """One completion and what it earned; with a step, a row of `schema.ROLLOUTS`.

    Attributes:
        custom: What rewards beyond `OURS` paid, by name.
        chain: What was thought before the answer; empty unless the status is `ok`.
    """

    example_id: str
    completion: str
    status: Status
    answer: str
    grounded_item_id: str | None
    rung: Rung
    cosine: float
    semantic: float
    preference: float | None  # None: nobody can say
    format: float
    custom: Mapping[str, float | None] = field(default_factory=dict)
    chain: str = ""


class Reward(Protocol):
    """Whatever pays rollouts. Each kind says its range, and what None means."""

    def __call__(self, rollouts: Sequence[Rollout], **call: Any) -> Sequence[float | None]:
        """What each rollout earns; None where the reward does not apply.

        Args:
            rollouts: Of one step on one process, as judged.
            **call: What TRL hands to reward functions: prompts, completions, and more.
        """
        ...


@dataclass(frozen=True)
class Judged:
    """A reward of `OURS`, which the judgement holds already.

    Attributes:
        name: `semantic` (Eq. 3, in [-1, 1]), `preference` (Eq. 4, in [0, 1]; None where nothing
            knows what people choose) or `format` (in [0, 1]).
    """

    name: str

    def __call__(self, rollouts: Sequence[Rollout], **call: Any) -> list[float | None]:
        """See `Reward`."""
        return [getattr(rollout, self.name) for rollout in rollouts]
