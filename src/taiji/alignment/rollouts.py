"""What a rollout earns: the rewards of a recommender's policy (Eq. 3, 4, and beyond).

Every rollout is judged by all three rewards of ours, whichever of them the recipe pays: what is
not paid is still worth a look. What else is paid sees the rollouts as judged.

Shape suffixes: N rollouts, D dimensions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taiji.alignment.rewards.form import FormReward, form_reward
from taiji.alignment.rewards.grounding import Grounder
from taiji.alignment.rewards.lists import ListReward, list_reward
from taiji.alignment.rewards.preference import PreferenceReward
from taiji.alignment.rewards.reward import OURS, Reward, Rollout
from taiji.alignment.rewards.semantic import semantic_reward
from taiji.language.completions import Status, answer_lines, parse_completion
from taiji.language.encoder_caches import RecentTexts


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
        num_answers: Items that an answer names, a line each.
        of_lists: What they earn together.
    """

    targets: Mapping[str, NDArray[np.float32]]
    encoder: RecentTexts
    grounder: Grounder
    preference: PreferenceReward | None
    form: FormReward
    end_ids: frozenset[int]
    num_answers: int = 1
    of_lists: ListReward = "best"

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
        lines = [answer_lines(one.answer, self.num_answers) or [""] for one in parsed]
        first_N = np.cumsum([0, *map(len, lines)])
        answers = [line for own in lines for line in own]
        of_line = [example_ids[n] for n, own in enumerate(lines) for _ in own]
        answers_ND = self.encoder.encode(answers)
        targets_ND = np.stack([self.targets[example_id] for example_id in of_line])
        semantic = semantic_reward(answers_ND, targets_ND)
        grounded = self.grounder.ground(answers, answers_ND)
        preference = None
        if self.preference is not None:
            preference = self.preference.reward(of_line, grounded)
        return [
            Rollout(
                example_id=example_id,
                completion=text,
                status=self._status(parsed[n].status, completion_ids[n]),
                answer=parsed[n].answer,
                grounded_item_id=grounded[first_N[n]].item_id,
                rung=grounded[first_N[n]].rung,
                cosine=grounded[first_N[n]].cosine,
                semantic=self._earned(semantic[first_N[n] : first_N[n + 1]]),
                preference=None
                if preference is None
                else self._earned(preference[first_N[n] : first_N[n + 1]]),
                format=form_reward(text, self.form, self.num_answers),
                chain=parsed[n].cot,
            )
            for n, (example_id, text) in enumerate(zip(example_ids, completions, strict=True))
        ]

    def _earned(self, lines: NDArray[np.float64]) -> float:
        if self.num_answers == 1:
            return float(lines[0])
        return list_reward(lines.tolist(), self.num_answers, self.of_lists)

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
        rewards: What the policy is paid, by name.
    """

    def __init__(self, judge: RolloutJudge, rewards: Mapping[str, Reward]) -> None:
        self._judge = judge
        self._rewards = dict(rewards)
        self._judged: list[Rollout] = []
        self._asked: tuple[list[str], list[str]] | None = None
        self._earned: dict[str, Sequence[float | None]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The rewards that are paid, in the order of `functions`."""
        return tuple(self._rewards)

    def functions(self) -> list[Callable[..., list[float | None]]]:
        """One function for each paid reward, called by its name in metrics and weights."""
        return [_named(name, self._pay) for name in self._rewards]

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

    def _pay(
        self,
        name: str,
        *,
        completions: list[str],
        completion_ids: list[list[int]],
        example_id: list[str],
        **kwargs: Any,
    ) -> list[float | None]:
        judged = self._rollouts(example_id, completions, completion_ids)
        call = {"completions": completions, "completion_ids": completion_ids, **kwargs}
        values = list(self._rewards[name](judged, example_id=example_id, **call))
        if name not in OURS:
            self._earned[name] = values
        return list(values)

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
