"""The toy language, two rewards on it, and how to read a trainer's log."""

from typing import Any

LETTERS = "abcdefghijklmnopqrst"
A, B = "share_of_a", "share_of_b"


def share_of_a(completions: list[str], **_: Any) -> list[float]:
    return [text.count("a") / 8 for text in completions]


def share_of_b(completions: list[str], **_: Any) -> list[float]:
    return [3 * text.count("b") / 8 + 0.1 * text.count("a") / 8 for text in completions]


def steps(trainer: Any) -> list[dict[str, float]]:
    """The rows of training steps that the trainer logged."""
    return [row for row in trainer.state.log_history if "reward" in row]
