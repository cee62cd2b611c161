"""What a rollout earns: the rewards of a recommender's policy (Eq. 3, 4, and beyond).

Every rollout is judged by all three rewards of ours, whichever of them the recipe pays: what is
not paid is still worth a look. Rewards of the user's own come on top.

Shape suffixes: N rollouts, D dimensions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taiji.alignment.rewards.custom import CustomReward
from taiji.alignment.rewards.form import FormReward, form_reward
from taiji.alignment.rewards.grounding import Grounder, Rung
from taiji.alignment.rewards.preference import PreferenceReward
from taiji.alignment.rewards.semantic import semantic_reward
from taiji.language.completions import parse_completion
from taiji.language.encoder_caches import RecentTexts
from taiji.language.generate import Status

OURS = ("semantic", "preference", "format")


@dataclass(frozen=True)
class Rollout:
    """One completion and what it earned; with a step, a row of `schema.ROLLOUTS`."""

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


@dataclass(frozen=True)
class RolloutJudge:
    """Scores completions of the policy.

    Attributes:
        targets: Embedding of the true item's text, by example.
        encoder: The same that embedded the targets.
        grounder: Finds the item that an answer names.
        preference: Scores it, if anything can; it knows examples as contexts.
        form: How the format reward counts.
        end_ids: Tokens that end a completion.
    """

    targets: Mapping[str, NDArray[np.float32]]
    encoder: RecentTexts
    grounder: Grounder
    preference: PreferenceReward | None
    form: FormReward
    end_ids: frozenset[int]

    def judge(
        self,
        example_ids: Sequence[str],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
    ) -> list[Rollout]:
        """Every reward of ours for each completion.

        A completion without one clear answer earns 0 for meaning and preference; an answer that
        names no item earns no preference. Neither is an error: the policy has to learn to avoid
        them.
        """
        parsed = [parse_completion(text) for text in completions]
        answers = [completion.answer for completion in parsed]
        answers_ND = self.encoder.encode(answers)
        targets_ND = np.stack([self.targets[example_id] for example_id in example_ids])
        semantic_N = semantic_reward(answers_ND, targets_ND)
        grounded = self.grounder.ground(answers, answers_ND)
        preference_N: Sequence[float | None] = [None] * len(grounded)
        if self.preference is not None:
            preference_N = self.preference.reward(example_ids, grounded).tolist()
        return [
            Rollout(
                example_id=example_id,
                completion=text,
                status=self._status(parsed[n].status, completion_ids[n]),
                answer=answers[n],
                grounded_item_id=grounded[n].item_id,
                rung=grounded[n].rung,
                cosine=grounded[n].cosine,
                semantic=float(semantic_N[n]),
                preference=preference_N[n],
                format=form_reward(text, self.form),
            )
            for n, (example_id, text) in enumerate(zip(example_ids, completions, strict=True))
        ]

    def _status(self, parsed: Status, completion_ids: Sequence[int]) -> Status:
        """Whatever broke off before its answer was whole is truncated rather than malformed."""
        ended = bool(completion_ids) and completion_ids[-1] in self.end_ids
        return "truncated" if parsed == "malformed" and not ended else parsed


class PolicyRewards:
    """The reward functions in the form that TRL calls, sharing one judgement.

    TRL calls each function on its own with the same rollouts; they are judged at the first call
    and kept until `take` hands them out.

    Args:
        judge: Of the rewards of ours.
        paid: Which of `OURS` the policy is paid for.
        custom: Rewards of the user's own, by name. Beyond TRL's keyword arguments they are
            given `answers` and `item_ids`, what each completion answered and which item that
            was taken for (None for none).
    """

    def __init__(
        self,
        judge: RolloutJudge,
        paid: Sequence[str] = ("semantic", "preference"),
        custom: Mapping[str, CustomReward] | None = None,
    ) -> None:
        self._judge = judge
        self._paid = tuple(name for name in OURS if name in paid)
        self._custom = dict(custom or {})
        self._judged: list[Rollout] = []
        self._asked: tuple[list[str], list[str]] | None = None
        self._earned: dict[str, Sequence[float | None]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The rewards that are paid, in the order of `functions`."""
        return (*self._paid, *self._custom)

    def functions(self) -> list[Callable[..., list[float | None]]]:
        """One function for each paid reward, called by its name in metrics and weights."""
        return [
            *(_named(name, self._own) for name in self._paid),
            *(_named(name, self._call_custom) for name in self._custom),
        ]

    def take(self) -> list[Rollout]:
        """The rollouts judged since the last call; none if the step reused earlier ones."""
        judged, earned = self._judged, self._earned
        self._judged, self._asked, self._earned = [], None, {}
        if not earned:
            return judged
        return [
            replace(rollout, custom={name: values[n] for name, values in earned.items()})
            for n, rollout in enumerate(judged)
        ]

    def forget(self) -> None:
        """Forget embeddings, which has to happen at each checkpoint: see `RecentTexts`."""
        self._judge.encoder.forget()

    def _own(
        self,
        name: str,
        *,
        completions: list[str],
        completion_ids: list[list[int]],
        example_id: list[str],
        **_: Any,
    ) -> list[float | None]:
        judged = self._rollouts(example_id, completions, completion_ids)
        return [getattr(rollout, name) for rollout in judged]

    def _call_custom(
        self,
        name: str,
        *,
        completions: list[str],
        completion_ids: list[list[int]],
        example_id: list[str],
        **kwargs: Any,
    ) -> list[float | None]:
        judged = self._rollouts(example_id, completions, completion_ids)
        values = self._custom[name](
            completions=completions,
            completion_ids=completion_ids,
            example_id=example_id,
            answers=[rollout.answer for rollout in judged],
            item_ids=[rollout.grounded_item_id for rollout in judged],
            **kwargs,
        )
        self._earned[name] = [None if value is None else float(value) for value in values]
        return list(self._earned[name])

    def _rollouts(
        self, example_ids: list[str], completions: list[str], completion_ids: list[list[int]]
    ) -> list[Rollout]:
        asked = (example_ids, completions)
        if asked != self._asked:
            self._judged = self._judge.judge(example_ids, completions, completion_ids)
            self._asked, self._earned = asked, {}
        return self._judged


def _named(
    name: str, method: Callable[..., list[float | None]]
) -> Callable[..., list[float | None]]:
    """A function of its own for a reward; TRL looks at `__name__`, and through partials."""

    def reward(**kwargs: Any) -> list[float | None]:
        return method(name, **kwargs)

    reward.__name__ = name
    return reward
