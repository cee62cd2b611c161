"""What a rollout earns: both rewards of a recommender's policy (Eq. 3, 4).

Shape suffixes: N rollouts, D dimensions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from taiji.alignment.grounding import Grounded, Grounder, Rung
from taiji.alignment.rewards import Array, Normaliser, semantic_reward
from taiji.language.encode import TextEncoder
from taiji.language.generate import Status
from taiji.reasoning.completions import parse_completion


class PreferenceScorer(Protocol):
    """The ranking model, as alignment sees it."""

    def score(self, context_ids: Sequence[str], item_ids: Sequence[str]) -> Array:
        """CTCVR of each pair: of the item, for the user of a context at its moment."""
        ...


@dataclass(frozen=True)
class Rollout:
    """One completion and what it earned; with a step, a row of `schema.ROLLOUTS`."""

    example_id: str
    completion: str
    status: Status
    answer: str
    grounded_item_id: str | None
    rung: Rung
    semantic: float
    preference: float


@dataclass(frozen=True)
class RolloutJudge:
    """Scores completions of the policy.

    Attributes:
        targets: Embedding of the true item's text, by example.
        encoder: The same that embedded the targets.
        grounder: Finds the item that an answer names.
        scorer: The ranking model; it knows examples as contexts.
        normaliser: Of its scores, fitted on the simulation pool and frozen.
        end_ids: Tokens that end a completion.
    """

    targets: Mapping[str, NDArray[np.float32]]
    encoder: TextEncoder
    grounder: Grounder
    scorer: PreferenceScorer
    normaliser: Normaliser
    end_ids: frozenset[int]

    def judge(
        self,
        example_ids: Sequence[str],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
    ) -> list[Rollout]:
        """Both rewards of each completion.

        A completion without one clear answer earns 0 twice; an answer that names no item earns
        no preference. Neither is an error: the policy has to learn to avoid them.
        """
        parsed = [parse_completion(text) for text in completions]
        answers = [completion.answer for completion in parsed]
        answers_ND = self.encoder.encode(answers)
        targets_ND = np.stack([self.targets[example_id] for example_id in example_ids])
        semantic_N = semantic_reward(answers_ND, targets_ND)
        grounded = self.grounder.ground(answers, answers_ND)
        preference_N = self._preference(example_ids, grounded)
        return [
            Rollout(
                example_id=example_id,
                completion=text,
                status=self._status(parsed[n].status, completion_ids[n]),
                answer=answers[n],
                grounded_item_id=grounded[n].item_id,
                rung=grounded[n].rung,
                semantic=float(semantic_N[n]),
                preference=float(preference_N[n]),
            )
            for n, (example_id, text) in enumerate(zip(example_ids, completions, strict=True))
        ]

    def _preference(self, example_ids: Sequence[str], grounded: Sequence[Grounded]) -> Array:
        preference_N = np.zeros(len(grounded))
        named = [n for n, verdict in enumerate(grounded) if verdict.item_id is not None]
        if named:
            item_ids = [item for verdict in grounded if (item := verdict.item_id) is not None]
            scores_N = self.scorer.score([example_ids[n] for n in named], item_ids)
            preference_N[named] = self.normaliser.apply(scores_N)
        return preference_N

    def _status(self, parsed: Status, completion_ids: Sequence[int]) -> Status:
        """Whatever broke off before its answer was whole is truncated rather than malformed."""
        ended = bool(completion_ids) and completion_ids[-1] in self.end_ids
        return "truncated" if parsed == "malformed" and not ended else parsed


class PolicyRewards:
    """The two reward functions in the form that TRL calls, sharing one judgement.

    TRL calls each function on its own with the same rollouts; they are judged at the first call
    and kept until `take` hands them out.
    """

    def __init__(self, judge: RolloutJudge) -> None:
        self._judge = judge
        self._judged: list[Rollout] = []
        self._asked: tuple[list[str], list[str]] | None = None

    def semantic(
        self,
        completions: list[str],
        completion_ids: list[list[int]],
        example_id: list[str],
        **_: Any,
    ) -> list[float]:
        """r_s of Eq. 3."""
        judged = self._rollouts(example_id, completions, completion_ids)
        return [rollout.semantic for rollout in judged]

    def preference(
        self,
        completions: list[str],
        completion_ids: list[list[int]],
        example_id: list[str],
        **_: Any,
    ) -> list[float]:
        """r_id of Eq. 4."""
        judged = self._rollouts(example_id, completions, completion_ids)
        return [rollout.preference for rollout in judged]

    def take(self) -> list[Rollout]:
        """The rollouts judged since the last call; none if the step reused earlier ones."""
        judged, self._judged, self._asked = self._judged, [], None
        return judged

    def _rollouts(
        self, example_ids: list[str], completions: list[str], completion_ids: list[list[int]]
    ) -> list[Rollout]:
        asked = (example_ids, completions)
        if asked != self._asked:
            self._judged = self._judge.judge(example_ids, completions, completion_ids)
            self._asked = asked
        return self._judged
