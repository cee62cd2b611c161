"""Facts that a prompt supports about a target: what the evidence teacher may argue from.

A fact is found in an example's history and profile by comparing them with the target's
categories and title; every word that it carries (`slots`) is copied from the text that the
prompt shows, or names one of the target's categories. Nothing is estimated.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

Kind = Literal[
    "repeat", "kind", "shelf", "together", "price", "recency", "brand", "department",
    "household", "profile", "latest", "nothing",
]  # fmt: skip
"""What a fact says, strongest first."""

Levels = tuple[str | None, str | None, str | None]

_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_DATE = re.compile(
    rf"\b(?:\d{{4}}-\d{{2}}-\d{{2}}|{_MONTH} \d{{1,2}}(?:, \d{{4}})?|\d{{1,2}} {_MONTH}(?: \d{{4}})?)"
)
_MONEY = re.compile(r"\$\d+(?:\.\d+)?")
_HOUSEHOLD = re.compile(r"\b(?:kid|child|household|famil|adult|person|people)", re.IGNORECASE)
_CLAUSE = re.compile(r"\s*[;,.\n]\s+|\s*[;\n]\s*|\.$")
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
    day: date
    written_day: str | None
    written_price: str | None
    brand: str | None

    @property
    def mention(self) -> str:
        """The item, with its date where the line shows one."""
        return f"{self.title} on {self.written_day}" if self.written_day else self.title


def find_facts(
    example: Mapping[str, Any],
    target: Mapping[str, Any],
    items: Mapping[str, Mapping[str, Any]],
) -> list[Fact]:
    """All facts about `target` in what the prompt of `example` shows, strongest first.

    Args:
        example: A row of `schema.EXAMPLES`, its history cut to the lines that the prompt shows.
        target: The true next item, a row of `schema.ITEMS`.
        items: Item rows by id, at least those of the history.
    """
    history = list(_purchases(example["history"], items))
    levels = levels_of(target)
    facts = [
        *_category_facts(history, target["title"], levels),
        *_together(history, levels),
        *_brand(history, _written_brand(target)),
        *_profile(example["profile"]),
    ]
    if history:
        facts.append(Fact("latest", 0, {"items": history[0].mention}))
    if not any(fact.level for fact in facts):
        facts.insert(0, Fact("nothing", 0))
    return facts


def levels_of(item: Mapping[str, Any]) -> Levels:
    """The three category names of an item row, None where missing."""
    return item["category_l1"], item["category_l2"], item["category_l3"]


def _purchases(
    history: Sequence[Mapping[str, Any]], items: Mapping[str, Mapping[str, Any]]
) -> Iterator[Purchase]:
    """The lines whose title stands in their text as the catalogue writes it."""
    for line in history:
        text, item = line["text"], items[line["item_id"]]
        title = item["title"]
        if title not in text or len(title.split()) > _MAX_SLOT_WORDS:
            continue
        first, second, third = (name if name and name in text else None for name in levels_of(item))
        day, price = _DATE.search(text), _MONEY.search(text)
        yield Purchase(
            title=title,
            levels=(first, second, third),
            day=line["ts"].date(),
            written_day=day.group() if day else None,
            written_price=price.group() if price else None,
            brand=_written_brand(item),
        )


def _category_facts(history: Sequence[Purchase], title: str, levels: Levels) -> Iterator[Fact]:
    """Purchases of the same title, kind (level 3), shelf (2) and department (1)."""
    same_title = [p for p in history if p.title.casefold() == title.casefold()]
    by_level: dict[int, list[Purchase]] = {
        level: [p for p in history if levels[level - 1] and p.levels[:level] == levels[:level]]
        for level in (1, 2, 3)
    }
    if same_title:
        days = {p.written_day: p for p in same_title if p.written_day}
        bought = list(days.values())[:2] or same_title[:1]
        yield Fact("repeat", 3 if levels[2] else 0, {"items": _joined(bought)})
    names: dict[int, Kind] = {3: "kind", 2: "shelf", 1: "department"}
    told = set(same_title)
    for level in (3, 2):
        new = [p for p in by_level[level] if p not in told]
        told |= set(new)
        if new:
            yield Fact(names[level], level, {"category": _name(levels, level), **_pair(new)})
    deepest = next((level for level in (3, 2) if by_level[level]), 0)
    if deepest:
        yield from _price(by_level[deepest], levels, deepest)
        yield from _recency(by_level[deepest], history, levels, deepest)
    rest = [p for p in by_level[1] if p not in told]
    if rest:
        yield Fact("department", 1, {"category": _name(levels, 1), **_pair(rest)})


def _price(bought: Sequence[Purchase], levels: Levels, level: int) -> Iterator[Fact]:
    """Prices paid in the target's category."""
    prices = list(dict.fromkeys(p.written_price for p in bought if p.written_price))
    if prices:
        yield Fact(
            "price", level, {"category": _name(levels, level), "prices": " and ".join(prices[:2])}
        )


def _recency(
    bought: Sequence[Purchase], history: Sequence[Purchase], levels: Levels, level: int
) -> Iterator[Fact]:
    """The category was last bought on an earlier day than the latest one shown."""
    last, newest = bought[0], history[0]
    if last.written_day and newest.written_day and last.day < newest.day:
        slots = {"category": _name(levels, level), "day": last.written_day}
        yield Fact("recency", level, {**slots, "newest": newest.written_day})


def _together(history: Sequence[Purchase], levels: Levels) -> Iterator[Fact]:
    """A companion: bought on one day with the target's category, and again on a later day."""
    for level in (3, 2):
        for bought in history:
            if not levels[level - 1] or bought.levels[:level] != levels[:level]:
                continue
            for companion in history:
                again = [p for p in history if p.title == companion.title and p.day > bought.day]
                if (
                    companion.day == bought.day
                    and companion.levels[:level] != levels[:level]
                    and again
                    and bought.written_day
                    and again[0].written_day
                ):
                    slots = {"category": _name(levels, level), "day": bought.written_day}
                    slots |= {"companion": companion.title, "again": again[0].written_day}
                    yield Fact("together", level, slots)
                    return


def _brand(history: Sequence[Purchase], brand: str | None) -> Iterator[Fact]:
    """Most lines are of the target's brand, as their titles say."""
    lines = sum(p.brand == brand for p in history)
    if brand and lines >= 2 and 2 * lines > len(history):
        yield Fact("brand", 0, {"brand": brand})


def _written_brand(item: Mapping[str, Any]) -> str | None:
    """The brand as the title begins with it, or None."""
    brand, title = item["brand"], item["title"]
    if brand and title.casefold().startswith(brand.casefold()):
        return str(title[: len(brand)])
    return None


def _profile(profile: str) -> Iterator[Fact]:
    """Up to two clauses of the profile, those about the household first."""
    clauses = [c.strip() for c in _CLAUSE.split(profile) if c and c.strip()]
    short = [c for c in clauses if len(c.split()) <= _MAX_SLOT_WORDS]
    about_household = [c for c in short if _HOUSEHOLD.search(c)]
    others = [c for c in short if c not in about_household]
    if about_household:
        yield Fact("household", 0, {"clause": about_household[0]})
    if others or len(about_household) > 1:
        yield Fact("profile", 0, {"clause": (others or about_household[1:])[0]})


def _pair(purchases: Sequence[Purchase]) -> dict[str, str]:
    """The two newest different items, as one phrase."""
    first = purchases[0]
    second = next((p for p in purchases[1:] if p.title != first.title), None)
    return {"items": _joined([first, second] if second else [first])}


def _joined(purchases: Sequence[Purchase]) -> str:
    """`A on day and B on day`; one item bought twice is named once."""
    if len(purchases) == 2 and purchases[0].title == purchases[1].title:
        return f"{purchases[0].mention} and on {purchases[1].written_day}"
    return " and ".join(p.mention for p in purchases)


def _name(levels: Levels, level: int) -> str:
    name = levels[level - 1]
    assert name is not None, "facts are sought only at levels that the target has"
    return name
