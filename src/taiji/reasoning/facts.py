"""Facts that a prompt supports about a target: what the evidence teacher may argue from.

A fact is found by comparing the history lines and the profile that a prompt shows with the
target's title, brand and categories. Every string that it carries (`slots`) is copied from the
prompt, or names a category of the target. Nothing is estimated.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from taiji.data.examples.text import KINDS
from taiji.data.item_text import one_part
from taiji.templates import ENGLISH

Kind = Literal[
    "repeat", "kind", "shelf", "favourite", "together", "price", "recency", "brand",
    "department", "household", "profile", "latest", "nothing",
]  # fmt: skip
"""What a fact says."""

Levels = tuple[str | None, str | None, str | None]

READ_TEMPLATES = frozenset(
    {"price", "before", "other_kind", "direct_answer", *KINDS}
    | {unit + s for unit in ("hour", "day", "week", "month", "year") for s in ("", "s")}
)
"""The templates that texts are taken apart by: they must be the English ones."""

_KIND_WORDS = frozenset(getattr(ENGLISH, kind) for kind in KINDS)
_AGE = re.compile(r"(\d+ (?:hour|day|week|month|year)s?) before")
_PRICE = re.compile(r"\d+\.\d{2} [A-Z]{3}")
_HOUSEHOLD = re.compile(r"\b(?:kids?|child|children|household|family|adults?)\b", re.IGNORECASE)
_LABELLED = re.compile(r"\w+: (.+)")  # "Household: a, b, c" enumerates with commas
_MAX_SLOT_WORDS = 16  # a longer item or clause would crowd everything else out of a chain


@dataclass(frozen=True)
class Fact:
    """One thing that the prompt supports.

    Attributes:
        kind: What it says.
        level: The deepest category level of the target that it speaks for; 0 for none.
        slots: Strings copied from the prompt, for the phrasings to fill in.
    """

    kind: Kind
    level: int
    slots: Mapping[str, str] = field(default_factory=dict)


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


def find_facts(example: Mapping[str, Any], target: Mapping[str, Any]) -> list[Fact]:
    """All facts about `target` in what the prompt of `example` shows, strongest first.

    Args:
        example: A row of `schema.EXAMPLES`, its history cut to the lines that the prompt shows.
        target: The true next item, a row of `schema.ITEMS`.
    """
    levels, title = written_levels(target), one_part(target["title"])
    history = [_purchase(line) for line in example["history"]]
    history = [p for p in history if len(p.title.split()) <= _MAX_SLOT_WORDS]
    clauses = _clauses(example["profile"])
    facts = [
        *_repeats(history, title, levels),
        *_categories(history, title, levels),
        *_favourites(clauses, levels),
        *_together(history, levels),
        *_habits(history, levels),
        *_brand(history, title, target["brand"]),
        *_department(history, levels),
        *_profile(clauses),
    ]
    if not any(fact.level for fact in facts):
        facts.insert(0, Fact("nothing", 0))
    if history:
        facts.append(Fact("latest", 0, {"item": history[0].mention}))
    return facts


def guesses(example: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Items of the history, in the form of `schema.ITEMS`, as guesses at the next one.

    The most frequent first, among equals the newest. Without a history that can be quoted
    there is one guess, at nothing.

    Args:
        example: A row of `schema.EXAMPLES`; its targets are not looked at.
    """
    history = [_purchase(line) for line in example["history"]]
    history = [p for p in history if len(p.title.split()) <= _MAX_SLOT_WORDS]
    counts = Counter(p.title for p in history)
    newest = {p.title: p for p in reversed(history)}
    titles = sorted(dict.fromkeys(p.title for p in history), key=lambda title: -counts[title])
    known = [(title, *newest[title].levels) for title in titles]
    columns = ("title", "category_l1", "category_l2", "category_l3")
    return [
        dict(zip(columns, item, strict=True)) | {"brand": None}
        for item in known or [("", None, None, None)]
    ]


def written_levels(item: Mapping[str, Any]) -> Levels:
    """The three category names of an item row as texts write them, None where missing."""
    names = (item["category_l1"], item["category_l2"], item["category_l3"])
    first, second, third = (one_part(name) if name else None for name in names)
    return first, second, third


def _purchase(line: Mapping[str, Any]) -> Purchase:
    """Take a history line apart: `title; L1; L2; L3; price; kind; age before`.

    All but the title may be missing. A line of another kind than a purchase counts like one
    here: it is the same interest.
    """
    title, *rest = line["text"].split("; ")
    age = _AGE.fullmatch(rest[-1]) if rest else None
    rest = rest[:-1] if age else rest
    rest = rest[:-1] if rest and rest[-1] in _KIND_WORDS else rest
    price = _PRICE.fullmatch(rest[-1]) if rest else None
    rest = rest[:-1] if price else rest
    names: list[str | None] = [*rest, None, None, None]
    first, second, third = names[:3]
    return Purchase(
        title=title,
        levels=(first, second, third),
        ts=line["ts"],
        age=age.group(1) if age else None,
        price=price.group() if price else None,
    )


def _repeats(history: Sequence[Purchase], title: str, levels: Levels) -> Iterator[Fact]:
    """The very item was bought before."""
    same = [p for p in history if p.title == title]
    if same:
        depth = next((n for n in (3, 2, 1) if same[0].within(levels, n)), 0)
        yield Fact("repeat", depth, {"item": same[0].mention})


def _categories(history: Sequence[Purchase], title: str, levels: Levels) -> Iterator[Fact]:
    """Other items of the target's kind (level 3) and of its shelf (level 2)."""
    kind = [p for p in history if p.within(levels, 3) and p.title != title]
    shelf = [p for p in history if p.within(levels, 2) and not p.within(levels, 3)]
    if kind:
        yield Fact("kind", 3, {"category": _name(levels, 3), "item": kind[0].mention})
    if shelf:
        yield Fact("shelf", 2, {"category": _name(levels, 2), "item": shelf[0].mention})


def _favourites(clauses: Sequence[str], levels: Levels) -> Iterator[Fact]:
    """The profile names the target's shelf."""
    name = levels[1]
    if name and any(re.search(rf"\b{re.escape(name)}\b", c, re.IGNORECASE) for c in clauses):
        yield Fact("favourite", 2, {"category": name})


def _together(history: Sequence[Purchase], levels: Levels) -> Iterator[Fact]:
    """A companion of the category's last purchase that was bought again later, without it."""
    for depth in (3, 2):
        bought = [p for p in history if p.within(levels, depth)]
        if not bought:
            continue
        last = bought[0]
        for companion in (p for p in history if p.ts == last.ts and not p.within(levels, depth)):
            later = (p for p in history if p.title == companion.title and p.ts > last.ts)
            again = next((p for p in later if p.age and p.age != last.age), None)
            if last.age and again and again.age:
                slots = {"category": _name(levels, depth), "age": last.age}
                slots |= {"companion": companion.title, "again": again.age}
                yield Fact("together", depth, slots)
                return


def _habits(history: Sequence[Purchase], levels: Levels) -> Iterator[Fact]:
    """Prices paid in the target's category, and how long ago it was bought last."""
    depth = next((n for n in (3, 2) if any(p.within(levels, n) for p in history)), 0)
    if not depth:
        return
    bought, category = [p for p in history if p.within(levels, depth)], _name(levels, depth)
    prices = list(dict.fromkeys(p.price for p in bought if p.price))[:2]
    if prices:
        yield Fact("price", depth, {"category": category, "prices": " and ".join(prices)})
    last, newest = bought[0], history[0]
    if last.age and newest.age and last.ts < newest.ts and last.age != newest.age:
        slots = {"category": category, "age": last.age, "newest": newest.age}
        yield Fact("recency", depth, slots)


def _brand(history: Sequence[Purchase], title: str, brand: str | None) -> Iterator[Fact]:
    """Most lines are of the target's brand, as their titles begin with it."""
    if not brand or not title.casefold().startswith(f"{brand.casefold()} "):
        return
    written = title[: len(brand)]
    lines = sum(p.title.startswith(f"{written} ") for p in history)
    if lines >= 2 and 2 * lines > len(history):
        yield Fact("brand", 0, {"brand": written})


def _department(history: Sequence[Purchase], levels: Levels) -> Iterator[Fact]:
    """Items of the target's department (level 1) from other shelves."""
    bought = [p for p in history if p.within(levels, 1) and not p.within(levels, 2)]
    if bought:
        yield Fact("department", 1, {"category": _name(levels, 1), "item": bought[0].mention})


def _profile(clauses: Sequence[str]) -> Iterator[Fact]:
    """Clauses of the profile, those about the household first."""
    household = [clause for clause in clauses if _HOUSEHOLD.search(clause)]
    if household:
        yield Fact("household", 0, {"clause": " and ".join(household[:2])})
    others = [clause for clause in clauses if clause not in household]
    yield from (Fact("profile", 0, {"clause": clause}) for clause in reversed(others[-3:]))


def _clauses(profile: str) -> list[str]:
    """The statements of a profile: `Label: a, b. C, d and e; f.` -> a, b, `C, d and e`, f."""
    clauses: list[str] = []
    for sentence in profile.rstrip(". ").split(". "):
        labelled = _LABELLED.fullmatch(sentence)
        clauses += labelled.group(1).split(", ") if labelled else sentence.split("; ")
    return [c for c in clauses if c and len(c.split()) <= _MAX_SLOT_WORDS]


def _name(levels: Levels, depth: int) -> str:
    name = levels[depth - 1]
    assert name is not None, "facts are sought only at levels that the target has"
    return name
