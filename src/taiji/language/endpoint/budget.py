"""What the calls of a run have cost, and the point at which no further one is begun."""

import time
from dataclasses import dataclass

from taiji.config.engines import BudgetSection
from taiji.errors import EngineError

_MILLION = 1_000_000


@dataclass(frozen=True)
class Usage:
    """Tokens that were paid for: of prompts, and of replies."""

    prompt_tokens: int
    completion_tokens: int

    def __add__(self, other: "Usage") -> "Usage":
        """Both together."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )

    @property
    def total(self) -> int:
        """Tokens of prompts and replies together."""
        return self.prompt_tokens + self.completion_tokens


class Budget:
    """Adds up usage and refuses further calls beyond the limits.

    Calls that are under way when a limit is met are let finish, so the limit can be passed by
    what they cost. A reply that was lost on its way (a cut connection, a time-out) is not
    counted, because nobody says what it cost.

    Args:
        section: Limits and prices.
        spent: What earlier attempts of the run have paid.
    """

    def __init__(self, section: BudgetSection, spent: Usage) -> None:
        self._section = section
        self.spent = spent
        self._began = time.monotonic()

    def note(self, usage: Usage) -> None:
        """Something was paid for."""
        self.spent += usage

    @property
    def cost(self) -> float:
        """By the section's prices."""
        section, spent = self._section, self.spent
        paid = section.input_price * spent.prompt_tokens
        return (paid + section.output_price * spent.completion_tokens) / _MILLION

    def check(self) -> None:
        """Call before each call.

        Raises:
            EngineError: A limit is met; the message says what was spent.
        """
        section = self._section
        hours = (time.monotonic() - self._began) / 3600
        if section.max_tokens is not None and self.spent.total >= section.max_tokens:
            self._stop("max_tokens", f"{section.max_tokens:,} tokens")
        if section.max_cost is not None and self.cost >= section.max_cost:
            self._stop("max_cost", f"{section.max_cost:g}")
        if section.max_hours is not None and hours >= section.max_hours:
            self._stop("max_hours", f"{section.max_hours:g} hours")

    def _stop(self, setting: str, allowed: str) -> None:
        spent = self.spent
        cost = (
            f" for {self.cost:.2f}"
            if self._section.input_price + self._section.output_price
            else ""
        )
        raise EngineError(
            f"budget.{setting}: {allowed} are used up: spent {spent.prompt_tokens:,} tokens of"
            f" prompts and {spent.completion_tokens:,} of replies{cost}: raise it and run the same"
            " command again: what was paid for is kept and not asked again"
        )
