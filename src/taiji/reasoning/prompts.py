"""The prompts of stage 2: what the student sees, and what its teacher sees.

The student's prompt is the same at SFT, scoring (Eq. 1), alignment and inference. It is short,
because it is paid for at every one of them. The RUPR teacher's adds the true next item; nothing
of that addition ever reaches the student or the scorer. The direct teacher's, for the ablation,
has the facts alone and asks for an answer of the teacher's own.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from taiji.config import Recipe
from taiji.errors import ConfigError
from taiji.language.prompt import ChatScaffold, Prompt, Segment
from taiji.templates import Templates, fill


@dataclass(frozen=True)
class PromptFitter:
    """Writes the student's prompt within a budget of tokens.

    Attributes:
        max_prompt_tokens: Beyond it the oldest history lines are dropped.
        answers: How many items are asked for.
    """

    scaffold: ChatScaffold
    max_prompt_tokens: int
    templates: Templates
    answers: int = 1

    def fit(self, example: Mapping[str, Any]) -> tuple[Prompt, int]:
        """The student's prompt without the oldest history lines that do not fit.

        Args:
            example: A row of `schema.EXAMPLES`.

        Returns:
            The prompt, and how many lines were dropped.

        Raises:
            ConfigError: Even without any history the prompt is longer than the budget.
        """
        history = example["history"]

        def prompt_with(num_lines: int) -> Prompt:
            shown = {**example, "history": history[:num_lines]}
            return student_prompt(shown, self.templates, self.answers)

        def num_tokens(num_lines: int) -> int:
            return len(self.scaffold.prompt_ids(prompt_with(num_lines)))

        if num_tokens(len(history)) <= self.max_prompt_tokens:
            return prompt_with(len(history)), 0
        fitting = bisect_right(range(len(history)), self.max_prompt_tokens, key=num_tokens) - 1
        if fitting < 0:
            raise ConfigError(
                f"student.max_prompt_tokens: {self.max_prompt_tokens}: too few for the prompt of "
                f"{example['example_id']} without any history: raise it"
            )
        return prompt_with(fitting), len(history) - fitting

    def shown(self, example: Mapping[str, Any]) -> dict[str, Any]:
        """The example with only the history lines that its fitted prompt shows."""
        _, dropped = self.fit(example)
        history = example["history"]
        return {**example, "history": history[: len(history) - dropped]}

    def losses(self, examples: Iterable[Mapping[str, Any]]) -> dict[str, int]:
        """How many prompts lose lines to the budget, and how many lines: figures of a stage."""
        return losses(self.fit(example)[1] for example in examples)


def prompt_fitter(recipe: Recipe, scaffold: ChatScaffold) -> PromptFitter:
    """The fitter with a recipe's budget and words."""
    text = recipe.data.text
    templates = text.resolved()
    student = recipe.student
    return PromptFitter(scaffold, student.max_prompt_tokens, templates, student.answers)


def losses(dropped: Iterable[int]) -> dict[str, int]:
    """The figures of `PromptFitter.losses` from the lines that each prompt lost."""
    lost = [number for number in dropped if number]
    return {"prompts_cut": len(lost), "history_lines_dropped": sum(lost)}


def student_prompt(example: Mapping[str, Any], templates: Templates, answers: int = 1) -> Prompt:
    """What the student reads: task, profile, numbered history (newest first), offer, format.

    Args:
        example: A row of `schema.EXAMPLES`.
        templates: The words around it.
        answers: How many items are asked for.
    """
    asked = templates.student_format
    if answers > 1:
        asked = fill(templates.student_format_list, count=str(answers))
    return Prompt(
        system=templates.student_system,
        user=(*_facts(example, templates), Segment(asked, data=False)),
    )


def rupr_prompt(example: Mapping[str, Any], target_text: str, templates: Templates) -> Prompt:
    """What the teacher reads: the same facts, and the true next item (RUPR).

    Args:
        example: A row of `schema.EXAMPLES`.
        target_text: The true next item as `title; level 1; level 2; level 3`.
        templates: The words around it.
    """
    return Prompt(
        system=templates.teacher_system,
        user=(
            Segment(f"{templates.teacher_task}\n", data=False),
            *_facts(example, templates),
            Segment(f"{templates.teacher_target}\n", data=False),
            Segment(target_text),
        ),
    )


def direct_prompt(example: Mapping[str, Any], templates: Templates) -> Prompt:
    """What the teacher reads in direct mode: the facts, and nothing of what came next.

    Args:
        example: A row of `schema.EXAMPLES`; its targets are not looked at.
        templates: The words around it.
    """
    task = fill(templates.direct_task, answer=templates.direct_answer)
    return Prompt(
        system=templates.teacher_system,
        user=(*_facts(example, templates), Segment(task, data=False)),
    )


def split_own_answer(text: str, templates: Templates) -> tuple[str, str | None]:
    """Take a direct teacher's text apart: its reasoning, and the answer that it names.

    The answer is what follows the last `templates.direct_answer`; None where the teacher gives
    none, which small ones often do.
    """
    reasoning, marker, answer = text.rpartition(templates.direct_answer)
    if not marker:
        return text, None
    return reasoning.strip(), answer.strip() or None


def prompt_text(prompt: Prompt) -> str:
    """All that the user's turn says, as one string."""
    return "".join(segment.text for segment in prompt.user)


def _facts(example: Mapping[str, Any], templates: Templates) -> tuple[Segment, ...]:
    """Profile and history; a part that is not there is left out, never written as "None".

    Borders between data and our words lie at line breaks, where no token would reach across.
    """
    segments: list[Segment] = []
    if example["profile"]:
        heading = Segment(f"{templates.profile_heading}\n", data=False)
        segments += [heading, Segment(f"{example['profile']}\n")]
    history = example["history"]
    words = templates.history_heading if history else templates.no_history
    segments.append(Segment(f"{words}\n", data=False))
    lines = enumerate(history, start=1)
    segments += [Segment(f"{number}. {line['text']}\n") for number, line in lines]
    if offered := example.get("offer"):
        names = templates.list_separator.join(offered)
        segments.append(Segment(f"{fill(templates.offer, names=names)}\n"))
    return tuple(segments)
