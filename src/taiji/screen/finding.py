"""One line of what `taiji doctor` has found."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    what: str
    verdict: Verdict
    found: str
