"""A history line of a prompt, taken apart again: `title; L1; L2; L3; price; kind; age before`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taiji.templates import ENGLISH, KINDS

Levels = tuple[str | None, str | None, str | None]

UNITS = ("minute", "hour", "day", "week", "month", "year")

READ_TEMPLATES = frozenset(
    {"note", "price", "before", "other_kind", "direct_answer", *KINDS}
    | {unit + s for unit in UNITS for s in ("", "s")}
)
"""The templates that texts are taken apart by: they must be the English ones."""

_KIND_WORDS = frozenset(getattr(ENGLISH, kind) for kind in KINDS)
_AGE = re.compile(rf"(\d+ (?:{'|'.join(UNITS)})s?) before")
_NOTE = re.compile(r'".*"')
_PRICE = re.compile(r"\d+\.\d{2}(?: [A-Z]{3})?")  # no currency is told where none is known


@dataclass(frozen=True)
class Purchase:
    """A history line taken apart; what the line does not show is None."""

    title: str
    levels: Levels
    ts: datetime
    age: str | None
    price: str | None

    @property
    def mention(self) -> str:
        """The item, with its age where the line shows one."""
        return f"{self.title} ({self.age} before)" if self.age else self.title

    def within(self, levels: Levels, depth: int) -> bool:
        """Whether it shares the whole category path of `levels` down to `depth`."""
        return levels[depth - 1] is not None and self.levels[:depth] == levels[:depth]


def read_line(line: Mapping[str, Any]) -> Purchase:
    """Take a history line apart: `title; L1; L2; L3; "note"; price; kind; age before`.

    All but the title may be missing. A line of another kind than a purchase counts like one
    here: it is the same interest.
    """
    title, *rest = line["text"].split("; ")
    age = _AGE.fullmatch(rest[-1]) if rest else None
    rest = rest[:-1] if age else rest
    rest = rest[:-1] if rest and rest[-1] in _KIND_WORDS else rest
    price = _PRICE.fullmatch(rest[-1]) if rest else None
    rest = rest[:-1] if price else rest
    rest = rest[:-1] if rest and _NOTE.fullmatch(rest[-1]) else rest
    names: list[str | None] = [*rest, None, None, None]
    first, second, third = names[:3]
    return Purchase(
        title=title,
        levels=(first, second, third),
        ts=line["ts"],
        age=age.group(1) if age else None,
        price=price.group() if price else None,
    )
