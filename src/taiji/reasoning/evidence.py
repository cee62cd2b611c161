"""The evidence teacher's pen: chains of thought out of facts that the prompt shows.

Deterministic, and no language model. Chains of one example go from the strongest evidence to
the weakest and end in a conclusion that is never more than one category level bolder than
their evidence. The only words about the target that need no support in the prompt are the
names of its categories in that conclusion; its title is quoted only where the history holds it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from taiji.data.item_text import item_text
from taiji.reasoning.facts import (
    Fact,
    Kind,
    Nearest,
    find_facts,
    find_meant,
    guesses,
    written_levels,
)
from taiji.reasoning.history_lines import Levels
from taiji.templates import ENGLISH

MIN_WORDS, MAX_WORDS = 18, 36

_SAYINGS: dict[Kind, tuple[str, ...]] = {
    "repeat": (
        "The list already holds {item}, so a repeat is possible.",
        "{item}: a purchase that can well be made again.",
        "One item stands out because it has been chosen before, {item}.",
        "Known items are easy to choose again, and here that is {item}.",
    ),
    "kind": (
        "From {category} came {item}.",
        "The shopper buys {category}: the list names {item}.",
        "There is a taste for {category}, seen in {item}.",
        "{item}: that is {category}.",
        "Looking at {category}, the list shows {item}.",
    ),
    "shelf": (
        "From a neighbouring shelf of {category} the shopper took {item}.",
        "{category} is familiar ground, with {item} in the list.",
        "The basket has reached into {category} before, for {item}.",
        "In {category} there was {item}.",
    ),
    "words": (
        "The list has {category} before, in {item}.",
        "{item}: that is {category} too.",
        "There is a taste for {category}, seen in {item}.",
        "What comes back is {category}, as in {item}.",
    ),
    "favourite": (
        "The profile counts {category} among the favourites.",
        "{category} is part of what the profile says this shopper buys.",
        "By the profile, {category} is bought often.",
    ),
    "together": (
        "{category} went with {companion} {age} before; {companion} came back {again} before.",
        "{companion} went with {category} {age} before and returned alone {again} before.",
        "{companion} is back since {again} before; its partner of {age} before was {category}.",
    ),
    "price": (
        "What was paid for {category} so far, {prices}, suggests a similar price band.",
        "Prices of {prices} in {category} point to an item that costs about as much.",
        "The budget for {category} can be read from {prices}.",
    ),
    "recency": (
        "{category} was last bought {age} before, the newest trip was {newest} before.",
        "Since {age} before nothing from {category} came, though a trip was {newest} before.",
        "Between {age} and {newest} before no other {category} was added, so there is room.",
    ),
    "brand": (
        "Most lines read {brand}, so the choice of brand is rather settled.",
        "As for brand, {brand} prevails in the list.",
        "The shopper mostly stays with {brand}.",
    ),
    "department": (
        "The wider department, {category}, has been visited, for example for {item}.",
        "{item}: the round has led through {category}.",
        "Trips lead through {category}, as {item} tells.",
        "Part of the list is {category}, such as {item}.",
    ),
    "household": (
        "The profile says {clause}, which shapes how much and what is needed.",
        "With {clause} in the profile, shopping is done for that household.",
        "Needs follow from the profile, {clause}.",
    ),
    "profile": (
        "The profile notes: {clause}.",
        "It helps to know from the profile: {clause}.",
        "One hint of the profile is this: {clause}.",
    ),
    "meant": (
        "The profile says: {clause}. That speaks of {category}.",
        "{clause}: that may well ask for {category}.",
        "One line of the profile matters here, {clause}, for it asks for {category}.",
    ),
    "latest": (
        "The newest line is {item}.",
        "Most recently the shopper took {item}.",
        "At the top of the list stands {item}.",
    ),
    "nothing": (
        "No earlier purchase points to one kind of item.",
        "There is no direct evidence, so the guess has to stay broad.",
        "Nothing that is known settles what comes next.",
        "The facts at hand do not lead to one product by themselves.",
    ),
}

_CONCLUSIONS: dict[int, tuple[str, ...]] = {
    3: (
        "The next item is therefore likely to be {third}, found under {second}.",
        "So {third} from {second} is a natural next purchase.",
        "All this leads to {second}, and there to {third}.",
        "I expect {third} next, which belongs to {second}.",
        "Hence something of the kind {third} within {second} should follow.",
    ),
    2: (
        "So the next item probably comes from {second} in {first}.",
        "That makes {second}, a part of {first}, a sensible next step.",
        "I would look in {second}, within {first}, for the next item.",
        "Hence {second} under {first} seems a fair guess.",
    ),
    1: (
        "So the safest expectation is an everyday item from {first}.",
        "The next item is most plausibly something from {first}.",
        "I would expect a product of {first}, without being sure which.",
        "Hence a broad guess, {first}, fits best.",
    ),
    0: (
        "So the next item stays open, and an everyday product is the fairest guess.",
        "I would expect an ordinary item, without being sure which.",
        "Hence only a broad guess is fair, namely some everyday product.",
    ),
}

# Where the target has no category: what the strongest fact that was said leads to.
_NAMED: dict[Kind, tuple[str, ...]] = {
    "words": (
        "So another item with {category} in its name is likely next.",
        "All this leads to {category} once more.",
        "Hence something named {category} should follow.",
    ),
    "repeat": (
        "So an item that is known already is the likeliest to come next.",
        "Hence a familiar item should follow.",
        "I expect one of the known items next.",
    ),
    "brand": (
        "So another item by {brand} is a fair guess.",
        "Hence {brand} should come next too.",
        "I would look among the items of {brand} next.",
    ),
}
_LEADS_TO: dict[Kind, Kind] = {
    "together": "words", "price": "words", "recency": "words",
    "words": "words", "repeat": "repeat", "brand": "brand",
}  # fmt: skip

_CAUTION = (
    "The evidence is thin, yet it is the best guide at hand.",
    "This is a hint rather than a rule, but it fits the shopper.",
    "Other choices remain possible, still this direction agrees with what is known.",
    "It is a modest clue, and nothing that is known speaks against it.",
)


# Our words about purchases, in words that hold for whatever was read, watched or clicked.
_NEUTRAL = (
    ("The shopper buys", "The user chooses"), ("this shopper buys", "this user chooses"),
    ("shopper", "user"), ("purchase", "choice"), ("is bought", "is chosen"),
    ("was last bought", "was last chosen"), ("shopping is done", "choices are made"),
    ("The basket", "The history"), ("neighbouring shelf", "neighbouring part"),
    ("Trips lead", "Visits lead"), ("trip", "visit"), ("an everyday product", "an ordinary one"),
    ("some everyday product", "some ordinary one"), ("everyday item", "item"),
    ("a product of", "something of"), ("one product", "one item"),
)  # fmt: skip


def _worded(saying: str, purchases: bool) -> str:
    """One of our phrasings, of purchases or of whatever users do here."""
    for old, new in () if purchases else _NEUTRAL:
        saying = saying.replace(old, new)
    return saying


def write_chains(
    example: Mapping[str, Any],
    target: Mapping[str, Any],
    k: int,
    *,
    purchases: bool = True,
    nearest: Nearest | None = None,
) -> list[str]:
    """k different chains for one example, from strong evidence to weak.

    Args:
        example: A row of `schema.EXAMPLES`, its history cut to what the prompt shows.
        target: The true next item, a row of `schema.ITEMS`.
        k: Number of chains.
        purchases: Items are bought; else they are read, watched, clicked or liked.
        nearest: As for `find_facts`.
    """
    facts, levels = find_facts(example, target, nearest), written_levels(target)
    chains: list[str] = []
    for candidate in range(k):
        start = round(candidate * (len(facts) - 1) / max(k - 1, 1))
        salt = f"{example['example_id']}/{candidate}"
        attempt = 0
        while (chain := _chain(facts[start:], levels, f"{salt}/{attempt}", purchases)) in chains:
            attempt += 1
        chains.append(chain)
    return chains


def write_readings(
    example: Mapping[str, Any],
    targets: Sequence[Mapping[str, Any]],
    k: int,
    nearest: Nearest,
    *,
    purchases: bool = True,
) -> list[str]:
    """k chains that read the profile: for each true item the clause that means it.

    All are empty where an item is meant by no clause.

    Args:
        example: A row of `schema.EXAMPLES`.
        targets: The true items in the order of the answer, rows of `schema.ITEMS`.
        k: Number of chains.
        nearest: As for `find_facts`.
        purchases: Items are bought; else they are read, watched, clicked or liked.
    """
    facts, levels = find_meant(example, targets, nearest), written_levels(targets[0])
    if not facts:
        return [""] * k
    chains = []
    for candidate in range(k):
        salt = f"{example['example_id']}/{candidate}"
        said = [
            _worded(_pick(_SAYINGS["meant"], salt, skip=number), purchases).format(**fact.slots)
            for number, fact in enumerate(facts)
        ]
        chains.append(" ".join([*said, _conclusion(levels, facts, salt, purchases)]))
    return chains


def write_direct(example: Mapping[str, Any], k: int, *, purchases: bool = True) -> list[str]:
    """k different chains that know nothing of the target, each with an answer of its own.

    Each argues for an item of the history, the most frequent first, as `write_chains` argues
    for the true one, and names it behind `templates.direct_answer`.

    Args:
        example: A row of `schema.EXAMPLES`, its history cut to what the prompt shows. Only id,
            profile and history are looked at.
        k: Number of chains.
        purchases: Items are bought; else they are read, watched, clicked or liked.
    """
    items = guesses(example)
    chains: list[str] = []
    for candidate in range(k):
        guess = items[candidate % len(items)]
        facts, levels = find_facts(example, guess), written_levels(guess)
        start = min(candidate // len(items), len(facts) - 1)
        salt = f"{example['example_id']}/{candidate}"
        attempt = 0
        while (chain := _chain(facts[start:], levels, f"{salt}/{attempt}", purchases)) in chains:
            attempt += 1
        chains.append(chain)
    return [
        f"{chain} {ENGLISH.direct_answer} {_answer(items[candidate % len(items)])}".rstrip()
        for candidate, chain in enumerate(chains)
    ]


def _answer(guess: Mapping[str, Any]) -> str:
    return item_text(guess) if guess["title"] else ""


def _chain(facts: Sequence[Fact], levels: Levels, salt: str, purchases: bool) -> str:
    """Facts in order until there are words enough, caution where there are few, a conclusion."""
    said: list[str] = []
    told: list[Fact] = []
    for number, fact in enumerate(facts):
        saying = _worded(_pick(_SAYINGS[fact.kind], salt, fact.kind, skip=number), purchases)
        sentence = saying.format(**fact.slots)
        end = _conclusion(levels, [*told, fact], salt, purchases)
        if _num_words([*said, sentence, end]) <= MAX_WORDS:
            said, told = [*said, sentence[:1].upper() + sentence[1:]], [*told, fact]
        if _num_words([*said, _conclusion(levels, told, salt, purchases)]) >= MIN_WORDS:
            break
    conclusion = _conclusion(levels, told, salt, purchases)
    for number in range(len(_CAUTION)):
        if _num_words([*said, conclusion]) >= MIN_WORDS:
            break
        said.append(_worded(_pick(_CAUTION, salt, "caution", skip=number), purchases))
    return " ".join([*said, conclusion])


def _conclusion(levels: Levels, told: Sequence[Fact], salt: str, purchases: bool) -> str:
    """A conclusion one level bolder than its support, as far as the target has levels.

    Without any level it names what the strongest fact is about.
    """
    first, second, third = levels
    known = next((n for n in (3, 2, 1) if all(levels[:n])), 0)
    leading = next((fact for fact in told if fact.kind in _LEADS_TO), None)
    if not known and leading is not None:
        saying = _pick(_NAMED[_LEADS_TO[leading.kind]], salt, "conclusion")
        return _worded(saying, purchases).format(**leading.slots)
    level = min(max((fact.level for fact in told), default=0) + 1, known)
    sentence = _worded(_pick(_CONCLUSIONS[level], salt, "conclusion"), purchases)
    return sentence.format(first=first, second=second, third=third)


def _pick(options: Sequence[str], *key: str, skip: int = 0) -> str:
    """One of the options, by a hash that is the same on every machine."""
    digest = hashlib.blake2b("/".join(key).encode(), digest_size=8).digest()
    return options[(int.from_bytes(digest) + skip) % len(options)]


def _num_words(sentences: Sequence[str]) -> int:
    return sum(len(sentence.split()) for sentence in sentences)
