"""Facts that a prompt supports about a target: what the evidence teacher may argue from.

A fact is found by comparing the history lines and the profile that a prompt shows with the
target's title, brand and categories. Every string that it carries (`slots`) is copied from the
prompt, or names a category of the target. Nothing is estimated.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from taiji.data.item_text import one_part
from taiji.reasoning.history_lines import Levels, Purchase, read_line

Kind = Literal[
    "repeat", "kind", "shelf", "words", "favourite", "together", "price", "recency", "brand",
    "department", "household", "profile", "meant", "latest", "nothing",
]  # fmt: skip
"""What a fact says."""

_HOUSEHOLD = re.compile(r"\b(?:kids?|child|children|household|family|adults?)\b", re.IGNORECASE)
_LABELLED = re.compile(r"\w+: (.+)")  # "Household: a, b, c" enumerates with commas
_MAX_SLOT_WORDS = 16  # a longer item or clause would crowd everything else out of a chain
_WORD = re.compile(r"[^\W\d_]{3,}")
_FEWEST_MEANT_WORDS = 3  # fewer are a label rather than a sentence
_MOST_WORDS = 2  # in common that are named
_EVIDENCE = frozenset({"repeat", "words", "together", "price", "recency", "brand", "meant"})
_LEAST_MEANT = 0.3  # cosine; ours: in the planted world 92 % that lie above it are right

Nearest = Callable[[Sequence[str], str], tuple[int, float]]
"""Which of some clauses is nearest in meaning to a name, and their cosine."""


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


def find_facts(
    example: Mapping[str, Any], target: Mapping[str, Any], nearest: Nearest | None = None
) -> list[Fact]:
    """All facts about `target` in what the prompt of `example` shows, strongest first.

    A target without categories is argued for by titles: what shares words with its own, what went
    with that, what it cost, when it was last there.

    Args:
        example: A row of `schema.EXAMPLES`, its history cut to the lines that the prompt shows.
        target: The true next item, a row of `schema.ITEMS`.
        nearest: Finds the clause of the profile that means the target; None: only words count.
    """
    levels, title = written_levels(target), one_part(target["title"])
    history = [read_line(line) for line in example["history"]]
    history = [p for p in history if len(p.title.split()) <= _MAX_SLOT_WORDS]
    clauses = _clauses(example["profile"])
    groups = _groups(history, title, levels)
    facts = [
        *_meant(clauses, title, levels, nearest),  # what the user says goes before what he did
        *_repeats(history, title, levels),
        *_categories(history, title, levels),
        *_words(groups),
        *_favourites(clauses, levels),
        *_together(history, groups),
        *_habits(history, groups),
        *_brand(history, title, target["brand"]),
        *_department(history, levels),
        *_profile(clauses),
    ]
    if not any(fact.level or (fact.kind in _EVIDENCE and not levels[0]) for fact in facts):
        facts.insert(0, Fact("nothing", 0))
    if history:
        facts.append(Fact("latest", 0, {"item": history[0].mention}))
    return facts


def find_meant(
    example: Mapping[str, Any], targets: Sequence[Mapping[str, Any]], nearest: Nearest
) -> list[Fact]:
    """For each target a clause of its own that means it and names none of its categories.

    Empty where a target has none. A clause that names the category, such as our own of what is
    bought mostly, says what the log knows already.

    Args:
        example: As for `find_facts`.
        targets: The true items, rows of `schema.ITEMS`.
        nearest: Finds the clause that means an item.
    """
    left, found = _clauses(example["profile"]), list[Fact]()
    for target in targets:
        levels, title = written_levels(target), one_part(target["title"])
        silent = [clause for clause in left if not any(_says(clause, name) for name in levels)]
        fact = next(_meant(silent, title, levels, nearest), None)
        if fact is None:
            return []
        found.append(fact)
        left = [clause for clause in left if clause.rstrip(".") != fact.slots["clause"]]
    return found


def guesses(example: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Items of the history, in the form of `schema.ITEMS`, as guesses at the next one.

    The most frequent first, among equals the newest. Without a history that can be quoted
    there is one guess, at nothing.

    Args:
        example: A row of `schema.EXAMPLES`; its targets are not looked at.
    """
    history = [read_line(line) for line in example["history"]]
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


def _meant(
    clauses: Sequence[str], title: str, levels: Levels, nearest: Nearest | None
) -> Iterator[Fact]:
    """A clause of the profile, such as a note, that means the target without naming it."""
    depth = next((n for n in (3, 2, 1) if levels[n - 1]), 0)
    name = _name(levels, depth) if depth else title
    told = [clause for clause in clauses if len(clause.split()) >= _FEWEST_MEANT_WORDS]
    if nearest is None or not told:
        return
    place, cosine = nearest(told, name)
    if cosine >= _LEAST_MEANT:
        yield Fact("meant", depth, {"clause": told[place].rstrip("."), "category": name})


def _favourites(clauses: Sequence[str], levels: Levels) -> Iterator[Fact]:
    """The profile names the target's shelf."""
    name = levels[1]
    if name and any(_says(clause, name) for clause in clauses):
        yield Fact("favourite", 2, {"category": name})


def _says(clause: str, name: str | None) -> bool:
    """A clause has a category's name in it."""
    return name is not None and bool(re.search(rf"\b{re.escape(name)}\b", clause, re.IGNORECASE))


@dataclass(frozen=True)
class _Group:
    """Lines that are like the target: by their category, or else by words of their titles.

    Attributes:
        depth: The level of the category; 0 for words.
        name: Of the category, or the words.
        lines: Newest first.
    """

    depth: int
    name: str
    lines: Sequence[Purchase]


def _groups(history: Sequence[Purchase], title: str, levels: Levels) -> list[_Group]:
    """Groups of lines, the closest first; those by words only where there is no category."""
    if levels[0]:
        found = [(n, [p for p in history if p.within(levels, n)]) for n in (3, 2)]
        return [_Group(n, _name(levels, n), lines) for n, lines in found if lines]
    shared = _shared_words(history, title)
    lines = [p for p in history if p.title != title and shared & _plain_words(p.title).keys()]
    if not lines:
        return []
    written = [w for p, w in _plain_words(lines[0].title).items() if p in shared][:_MOST_WORDS]
    return [_Group(0, " and ".join(written), lines)]


def _shared_words(history: Sequence[Purchase], title: str) -> set[str]:
    """Words of the target's title that other lines have, but not so many that they say nothing."""
    own = _plain_words(title)
    others = [_plain_words(p.title).keys() for p in history if p.title != title]
    counts = Counter(word for words in others for word in words if word in own)
    return {word for word, number in counts.items() if number == 1 or 2 * number <= len(others)}


def _plain_words(title: str) -> dict[str, str]:
    """Words of a title without regard to case -> as they are written."""
    return {word.casefold(): word for word in _WORD.findall(title)}


def _words(groups: Sequence[_Group]) -> Iterator[Fact]:
    """Titles that share words with the target's."""
    for group in groups:
        if not group.depth:
            yield Fact("words", 0, {"category": group.name, "item": group.lines[0].mention})


def _together(history: Sequence[Purchase], groups: Sequence[_Group]) -> Iterator[Fact]:
    """A companion of the group's last purchase that was bought again later, without it."""
    for group in groups:
        last, alike = group.lines[0], {id(line) for line in group.lines}
        for companion in (p for p in history if p.ts == last.ts and id(p) not in alike):
            later = (p for p in history if p.title == companion.title and p.ts > last.ts)
            again = next((p for p in later if p.age and p.age != last.age), None)
            if last.age and again and again.age:
                slots = {"category": group.name, "age": last.age}
                slots |= {"companion": companion.title, "again": again.age}
                yield Fact("together", group.depth, slots)
                return


def _habits(history: Sequence[Purchase], groups: Sequence[_Group]) -> Iterator[Fact]:
    """Prices paid in the closest group, and how long ago it was bought last."""
    if not groups:
        return
    group = groups[0]
    prices = list(dict.fromkeys(p.price for p in group.lines if p.price))[:2]
    if prices:
        slots = {"category": group.name, "prices": " and ".join(prices)}
        yield Fact("price", group.depth, slots)
    last, newest = group.lines[0], history[0]
    if last.age and newest.age and last.ts < newest.ts and last.age != newest.age:
        slots = {"category": group.name, "age": last.age, "newest": newest.age}
        yield Fact("recency", group.depth, slots)


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
