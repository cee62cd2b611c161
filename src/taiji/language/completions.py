"""The form of a completion: `<think>` chain `</think>` `<answer>` item `</answer>`.

Whatever reads or writes the form does it here. What a model writes is read strictly, because
rewards and features hang on it: the answer counts only if it is unmistakable.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from taiji.language.prompt import ANSWER_CLOSE, THINK_CLOSE_ANSWER_OPEN, THINK_OPEN

Status = Literal["ok", "truncated", "malformed", "empty", "refused", "http_error", "timeout"]

_ANSWER = re.compile(r"\s*<answer>(.*)</answer>\s*", re.DOTALL)
_ANSWERS = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


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


@dataclass(frozen=True)
class Tags:
    """What of the form is there, each by itself: the paper's measures of format.

    Attributes:
        think: One `</think>`. The opening tag may stand in the prompt.
        chain: Words before the last `</think>`.
        answer: One filled answer after the last `</think>`, whatever stands around it.
    """

    think: bool
    chain: bool
    answer: bool


@dataclass(frozen=True)
class Form:
    """Four things that a completion must have to be read by the stages after it.

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


def parse_completion(text: str) -> Completion:
    """Read a completion.

    The answer is looked for only after the last `</think>`: tags that the chain quotes, from
    an item's title for instance, are chain and nothing else. There must be exactly one answer,
    with nothing but white space around it. A missing `<think>` is accepted, since some servers
    keep it to themselves. White space around chain and answer does not belong to them.
    """
    if not text.strip():
        return Completion("", "", "empty")
    cot, rest = split_chain(text)
    match = _ANSWER.fullmatch(rest)
    if cot is None or not match:
        return Completion("", "", "malformed")
    answer = match.group(1).strip()
    if any(tag in answer for tag in ("<think>", "<answer>", "</answer>")):
        return Completion("", "", "malformed")
    if not answer:
        return Completion("", "", "empty")
    return Completion(cot, answer, "ok")


def render_completion(cot: str, answer: str) -> str:
    """Write a completion; `parse_completion` reads it back unless the answer holds our tags."""
    return f"{THINK_OPEN}{cot}{THINK_CLOSE_ANSWER_OPEN}{answer}{ANSWER_CLOSE}"


def split_chain(text: str) -> tuple[str | None, str]:
    """The chain up to the last `</think>`, None if nothing closes one, and what follows it."""
    chain, closed, rest = text.rpartition("</think>")
    return (without_opening(chain) if closed else None), rest


def join_chain(chain: str, rest: str, *, closed: bool = True) -> str:
    """The opposite of `split_chain`; a chain that is not closed stands alone."""
    return f"{THINK_OPEN}{chain}\n</think>\n{rest}" if closed else f"{THINK_OPEN}{chain}"


def without_opening(chain: str) -> str:
    """A chain without the tag that opens it and the white space around it."""
    return chain.strip().removeprefix("<think>").strip()


def find_tags(text: str) -> Tags:
    """Look for each part of the form by itself."""
    chain, rest = split_chain(text)
    answers = _ANSWERS.findall(rest)
    return Tags(
        think=text.count("</think>") == 1,
        chain=bool(chain),
        answer=len(answers) == 1 and rest.count("<answer>") == 1 and bool(answers[0].strip()),
    )


def check_form(text: str, answers: int = 1) -> Form:
    """Look at a completion as `parse_completion` reads it.

    Args:
        text: The completion.
        answers: How many items were asked for; of several each must be well-formed.
    """
    parsed = parse_completion(text)
    chain, closed, _ = text.partition("</think>")
    words = without_opening(chain)
    items = [
        [part.strip() for part in item.split(";")] for item in answer_lines(parsed.answer, answers)
    ]
    return Form(
        think=text.count("</think>") == 1 and "<think>" not in words,
        chain=bool(closed and words),
        answer=parsed.status == "ok",
        levels=parsed.status == "ok" and all(len(item) <= 4 and all(item) for item in items),
    )


def answer_lines(answer: str, count: int) -> list[str]:
    """The items that an answer names, likeliest first and at most `count`, as `title; L1; L2; L3`.

    A single item stands as it is. Of several each has a line, its path first, so that a line which
    is cut off still names a category.
    """
    if count == 1:
        return [answer]
    return [_title_first(line) for line in answer.splitlines() if line.strip()][:count]


def first_answer(answer: str, count: int) -> str:
    """The likeliest of `count` items, as `title; L1; L2; L3`; empty if the answer names none."""
    return next(iter(answer_lines(answer, count)), "")


def list_answer(items: Sequence[str]) -> str:
    """Write several items, each `title; L1; L2; L3`, in the form that `answer_lines` reads."""
    lines = []
    for item in items:
        title, *levels = split_answer(item)
        lines.append("; ".join([*(level for level in levels if level), title]))
    return "\n".join(lines)


def _title_first(line: str) -> str:
    parts = [part.strip() for part in line.split(";")]
    levels = parts[: min(3, len(parts) - 1)]
    return "; ".join(["; ".join(parts[len(levels) :]), *levels])


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
