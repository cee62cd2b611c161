"""The format reward: is a completion written in the form that the stages after it can read?"""

import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Literal

from taiji.alignment.rewards.reward import Rollout
from taiji.language.completions import check_form, find_tags

FormReward = Literal["binary", "graded"]


def form_reward(completion: str, kind: FormReward, answers: int = 1) -> float:
    """`graded`: a quarter for each of the four things of `Form`. `binary`: 1 for all, else 0.

    Args:
        completion: What was written.
        kind: How it counts.
        answers: Items that were asked for, a line each.
    """
    met: int = sum(astuple(check_form(completion, answers)))
    match kind:
        case "graded":
            return met / 4
        case "binary":
            return float(met == 4)


_ANSWERS = re.compile(r"<answer>.*?</answer>", re.DOTALL)
_MOST_OUTSIDE = 100  # characters; so many earn nothing


def has_tags(completion: str) -> bool:
    """r_fmt of RPORec: one chain and one answer with words in them, whatever stands around.

    `format` is stricter: it takes nothing but white space around them.
    """
    return all(astuple(find_tags(completion)))


def outside_tags(completion: str) -> int:
    """L_out: characters that stand in neither chain nor answer, white space around them apart.

    The opening `<think>` may stand in the prompt, so what comes before the last `</think>` is
    chain, but for what comes before a `<think>` of its own.
    """
    chain, closed, rest = completion.rpartition("</think>")
    before = chain.partition("<think>")[0] if closed and "<think>" in chain else ""
    pieces = [before, *_ANSWERS.split(rest)]
    return sum(len(piece.strip()) for piece in pieces)


@dataclass(frozen=True)
class CleanReward:
    """r_clean = max(0, 1 - L_out / 100) of RPORec (arXiv 2605.21967), in [0, 1]; never None.

    Attributes:
        gated: Pay nothing where `has_tags` says no, as r_fmt does there.
    """

    gated: bool

    def __call__(self, rollouts: Sequence[Rollout], **call: Any) -> list[float | None]:
        """See `Reward`."""
        return [self._one(rollout.completion) for rollout in rollouts]

    def _one(self, completion: str) -> float:
        if self.gated and not has_tags(completion):
            return 0.0
        return max(0.0, 1 - outside_tags(completion) / _MOST_OUTSIDE)
