"""The format reward: is a completion written in the form that the stages after it can read?"""

from dataclasses import astuple
from typing import Literal

from taiji.language.completions import check_form

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
