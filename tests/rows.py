"""Rows of the artifacts with everything that a test does not care about filled in, and a kill."""

from datetime import UTC, datetime
from typing import Any

NOON = datetime(2017, 12, 1, 12, tzinfo=UTC)


class KilledError(Exception):
    """Stands in for a kill: nothing after it runs."""


def example_row(example_id: str, split: str = "test", **columns: Any) -> dict[str, Any]:
    """A row of `schema.EXAMPLES`: of user `u1`, with no history and no target unless given."""
    return {
        "example_id": example_id,
        "user_id": "u1",
        "split": split,
        "cutoff": NOON,
        "profile": "",
        "history": [],
        "history_length": 0,
        "long_tail": False,
        "holdout": False,
        "target_item_id": None,
        "novel_target_item_id": None,
        "basket_item_ids": None,
        **columns,
    }


def scored_row(example_id: str, candidate: int = 0, **columns: Any) -> dict[str, Any]:
    """A row of `schema.SCORED`: a chain of the default teacher that was kept."""
    return {
        "example_id": example_id,
        "candidate": candidate,
        "teacher": "evidence",
        "status": "ok",
        "cot": "why",
        "answer": "x",
        "leak": None,
        "perplexity": 2.0,
        "num_answer_tokens": 3,
        "kept": True,
        "reason": "kept",
        **columns,
    }


def text_row(example_id: str, model: str = "policy", **columns: Any) -> dict[str, Any]:
    """A row of `schema.TEXTS`: well-formed unless given otherwise."""
    return {
        "example_id": example_id,
        "model": model,
        "status": "ok",
        "completion": "x",
        "cot": "why",
        "answer": "x",
        **columns,
    }


def rollout_row(step: int, example_id: str, **columns: Any) -> dict[str, Any]:
    """A row of `schema.ROLLOUTS`: a completion that no reward pays for unless given."""
    return {
        "step": step,
        "example_id": example_id,
        "completion": "x",
        "status": "ok",
        "answer": "x",
        "grounded_item_id": None,
        "rung": "none",
        "cosine": 0.0,
        "semantic": 0.0,
        "preference": 0.0,
        "format": 0.0,
        "custom": None,
        **columns,
    }
