"""The format reward: is a completion written in the form that the stages after it can read?"""

from dataclasses import astuple, dataclass
from typing import Literal

from taiji.language.completions import parse_completion

FormReward = Literal["binary", "graded"]


@dataclass(frozen=True)
class Form:
    """Four things that a completion must have; each is counted apart in the metrics.

    Attributes:
        think: One `</think>`, and before it at most one `<think>`, at the very start.
        chain: Words between them.
        answer: Exactly one answer, with words in it and nothing but white space around it.
        levels: The answer is a title and at most three levels, none of them empty. A bare title
            is well-formed, because items without a category are written so.
    """

    think: bool
    chain: bool
    answer: bool
    levels: bool

    def reward(self, kind: FormReward) -> float:
        """`graded`: a quarter for each of the four. `binary`: 1 for all four, else 0."""
        met: int = sum(astuple(self))
        match kind:
            case "graded":
                return met / 4
            case "binary":
                return float(met == 4)


def check_form(completion: str) -> Form:
    """Look at a completion as `parse_completion` reads it."""
    parsed = parse_completion(completion)
    chain, closed, _ = completion.partition("</think>")
    chain = chain.strip()
    words = chain.removeprefix("<think>").strip()
    return Form(
        think=completion.count("</think>") == 1 and "<think>" not in words,
        chain=bool(closed) and bool(words),
        answer=parsed.status == "ok",
        levels=parsed.status == "ok" and _well_formed(parsed.answer),
    )


def _well_formed(answer: str) -> bool:
    parts = [part.strip() for part in answer.split(";")]
    return len(parts) <= 4 and all(parts)
