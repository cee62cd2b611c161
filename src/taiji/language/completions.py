"""The form of a completion: `<think>` chain `</think>` `<answer>` item `</answer>`.

What a model writes is read strictly, because rewards and features hang on it: the answer
counts only if it is unmistakable.
"""

import re
from dataclasses import dataclass

from taiji.language.generate import Status

_ANSWER = re.compile(r"\s*<answer>(.*)</answer>\s*", re.DOTALL)


@dataclass(frozen=True)
class Completion:
    """A completion in its parts.

    Attributes:
        cot: The chain of thought; empty unless the status is `ok`.
        answer: The answer; empty unless the status is `ok`.
        status: `ok`, `malformed` (not in the form), or `empty` (nothing in it, or an answer
            without words).
    """

    cot: str
    answer: str
    status: Status


def parse_completion(text: str) -> Completion:
    """Read a completion.

    The answer is looked for only after the last `</think>`: tags that the chain quotes, from
    an item's title for instance, are chain and nothing else. There must be exactly one answer,
    with nothing but white space around it. A missing `<think>` is accepted, since some servers
    keep it to themselves. White space around chain and answer does not belong to them.
    """
    if not text.strip():
        return Completion("", "", "empty")
    chain, closed, rest = text.rpartition("</think>")
    match = _ANSWER.fullmatch(rest)
    if not closed or not match:
        return Completion("", "", "malformed")
    answer = match.group(1).strip()
    if any(tag in answer for tag in ("<think>", "<answer>", "</answer>")):
        return Completion("", "", "malformed")
    if not answer:
        return Completion("", "", "empty")
    return Completion(chain.strip().removeprefix("<think>").strip(), answer, "ok")


def render_completion(cot: str, answer: str) -> str:
    """Write a completion; `parse_completion` reads it back unless the answer holds our tags."""
    return f"<think>\n{cot}\n</think>\n<answer>\n{answer}\n</answer>"


def split_answer(answer: str) -> tuple[str, str | None, str | None, str | None]:
    """Split `title; L1; L2; L3` into its parts; missing levels are None.

    Read from the right, as a model may put a semicolon into a title but not into a category:
    with more than four parts the surplus belongs to the title.
    """
    parts = [part.strip() for part in answer.split(";")]
    title, levels = "; ".join(parts[:-3]), parts[-3:]
    if len(parts) <= 4:
        title, levels = parts[0], parts[1:]
    l1, l2, l3 = (*(level or None for level in levels), None, None, None)[:3]
    return title, l1, l2, l3
