"""The two prompts of stage 2: what the student sees, and what the RUPR teacher sees.

The student's prompt is the same at SFT, scoring (Eq. 1), alignment and inference. It is short,
because it is paid for at every one of them. The teacher's adds the true next item; nothing of
that addition ever reaches the student or the scorer.
"""

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from taiji.errors import ConfigError
from taiji.language.prompt import ChatScaffold, Prompt, Segment

STUDENT_SYSTEM = "From a shopper's profile and purchases, reason to the next item they buy."
STUDENT_FORMAT = (
    "Reason inside <think></think>, then write the next item as "
    "title; level 1; level 2; level 3 inside <answer></answer>."
)

TEACHER_SYSTEM = "You explain shopping habits in plain words."
TEACHER_TASK = (
    "Write two or three sentences that reason from the profile and the purchases to the kind of "
    "item that this shopper needs next. Use only facts from the list. Reason forward, as if you "
    "could not know what comes next: do not quote the item below, do not say that you were "
    "shown it, and write no list and no tags."
)


def student_prompt(example: Mapping[str, Any]) -> Prompt:
    """What the student reads: task, profile, numbered history (newest first), format.

    Args:
        example: A row of `schema.EXAMPLES`.
    """
    return Prompt(
        system=STUDENT_SYSTEM,
        user=(*_facts(example), Segment(STUDENT_FORMAT, data=False)),
    )


def rupr_prompt(example: Mapping[str, Any], target_text: str) -> Prompt:
    """What the teacher reads: the same facts, and the true next item (RUPR).

    Args:
        example: A row of `schema.EXAMPLES`.
        target_text: The true next item as `title; level 1; level 2; level 3`.
    """
    return Prompt(
        system=TEACHER_SYSTEM,
        user=(
            Segment(f"{TEACHER_TASK}\n", data=False),
            *_facts(example),
            Segment("Item that the reasoning must lead to:\n", data=False),
            Segment(target_text),
        ),
    )


def fit_prompt(
    example: Mapping[str, Any], scaffold: ChatScaffold, max_prompt_tokens: int
) -> tuple[Prompt, int]:
    """The student's prompt without the oldest history lines that do not fit.

    Returns:
        The prompt, and how many lines were dropped.

    Raises:
        ConfigError: Even without any history the prompt is longer than `max_prompt_tokens`.
    """
    history = example["history"]

    def prompt_with(num_lines: int) -> Prompt:
        return student_prompt({**example, "history": history[:num_lines]})

    def num_tokens(num_lines: int) -> int:
        return len(scaffold.prompt_ids(prompt_with(num_lines)))

    if num_tokens(len(history)) <= max_prompt_tokens:
        return prompt_with(len(history)), 0
    fitting = bisect_right(range(len(history)), max_prompt_tokens, key=num_tokens) - 1
    if fitting < 0:
        raise ConfigError(
            f"student.max_prompt_tokens: {max_prompt_tokens}: too few for the prompt of "
            f"{example['example_id']} without any history: raise it"
        )
    return prompt_with(fitting), len(history) - fitting


def shown(
    example: Mapping[str, Any], scaffold: ChatScaffold, max_prompt_tokens: int
) -> dict[str, Any]:
    """The example with only the history lines that its fitted prompt shows."""
    _, dropped = fit_prompt(example, scaffold, max_prompt_tokens)
    history = example["history"]
    return {**example, "history": history[: len(history) - dropped]}


def prompt_text(prompt: Prompt) -> str:
    """All that the user's turn says, as one string."""
    return "".join(segment.text for segment in prompt.user)


def _facts(example: Mapping[str, Any]) -> tuple[Segment, ...]:
    """Profile and history; a part that is not there is left out, never written as "None".

    Borders between data and our words lie at line breaks, where no token would reach across.
    """
    segments: list[Segment] = []
    if example["profile"]:
        segments += [Segment("Profile:\n", data=False), Segment(f"{example['profile']}\n")]
    history = example["history"]
    heading = "Purchases, newest first:\n" if history else "No purchases are known.\n"
    segments.append(Segment(heading, data=False))
    lines = enumerate(history, start=1)
    segments += [Segment(f"{number}. {line['text']}\n") for number, line in lines]
    return tuple(segments)
