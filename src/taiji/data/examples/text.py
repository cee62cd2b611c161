"""What a prompt says of an item, of one interaction and of a user.

Everything missing is left out, never written as `None`. Fields stand in a fixed order, so
the same facts give the same text. All text from the log goes through `defang` here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from taiji.config.text import TextSection
from taiji.data.examples.fields import GROUPS, ProfileField, coarse, profile_fields
from taiji.data.item_text import one_part, short_name
from taiji.safe_text import defang
from taiji.templates import KINDS, Language, Templates, currency_name, fill, fill_money

_DAY = 24 * 60  # minutes
_STEPS = (
    *((365 * _DAY, "year"), (30 * _DAY, "month"), (7 * _DAY, "week"), (_DAY, "day")),
    (60, "hour"),
)
_MODALITIES = {
    "search": "searches",
    "search_query": "searches",
    "app": "apps",
    "app_active": "apps",
    "live_stream": "live_streams",
    "live": "live_streams",
}


@dataclass(frozen=True)
class Wording:
    """How facts are told: words, currency, and which fields of a profile, how coarsely.

    Attributes:
        currency: As prices name it; empty if it is not known.
        fields: The allow-list, in the order of telling.
        max_characters: Of a title, a category's name or a value; longer ones are cut.
        unsaid_kind: The kind of interaction that a history line takes for granted.
    """

    language: Language
    templates: Templates
    currency: str
    fields: tuple[ProfileField, ...]
    max_characters: int
    unsaid_kind: str


@dataclass(frozen=True)
class Habits:
    """A user's behaviour before one cut-off.

    Attributes:
        top_categories: The most frequent second-level categories, most frequent first.
        price_band: Lower and upper quartile of the unit prices paid.
        brands: The most frequent brands, most frequent first.
        private_label_share: Share of the interactions with a known brand that are private label.
        shopping_time: When most orders are placed, such as `weekday evenings`.
        events: What the user did beside interactions, newest first, by modality.
    """

    top_categories: Sequence[str] = ()
    price_band: tuple[float, float] | None = None
    brands: Sequence[str] = ()
    private_label_share: float | None = None
    shopping_time: str | None = None
    events: Mapping[str, Sequence[str]] = field(default_factory=dict)


def wording(section: TextSection, declared: Sequence[str]) -> Wording:
    """The wording of a recipe for a source that declares these profile fields, in this order.

    Raises:
        ConfigError: The recipe names a field that the source does not have.
    """
    return Wording(
        language=section.language,
        templates=section.resolved(),
        currency=currency_name(section.language, section.currency),
        fields=profile_fields(section, declared),
        max_characters=section.max_title_characters,
        unsaid_kind=section.unsaid_kind,
    )


def price_text(price: float, words: Wording) -> str:
    """Return a unit price, such as `2.50 USD`."""
    return fill_money(words.templates.price, amount=f"{price:.2f}", currency=words.currency)


def kind_text(kind: str, words: Wording) -> str:
    """Return what was done, such as `viewed`; a kind that is not ours stands as it is."""
    known: str = getattr(words.templates, kind if kind in KINDS else "other_kind")
    return fill(known, kind=_value(kind.replace("_", " "), words).replace(";", ","))


def note_text(note: str, words: Wording) -> str:
    """Return what else is known of an interaction, such as `"rated 4"`."""
    plain = _value(note, words).replace(";", ",").replace('"', "'")
    return fill(words.templates.note, note=plain)


def age_text(num_minutes: int, words: Wording) -> str:
    """Return how long before the cut-off, in the largest whole unit: `3 weeks before`.

    Args:
        num_minutes: Whole minutes, rounded down; never told as less than one.
        words: The wording.
    """
    number, unit = max(1, num_minutes), "minute"
    for size, name in _STEPS:
        if num_minutes >= size:
            number, unit = num_minutes // size, name
            break
    template: str = getattr(words.templates, unit if number == 1 else f"{unit}s")
    return fill(words.templates.before, age=fill(template, number=str(number)))


def profile_text(fields: Mapping[str, str | None], habits: Habits, words: Wording) -> str:
    """Return who the user is and how they buy, in a few short sentences.

    Args:
        fields: Values of the users table; only those on the allow-list are told.
        habits: Figures of the interactions strictly before the cut-off.
        words: The wording.
    """
    templates = words.templates
    parts = [*_facts(fields, words), _habits_text(habits, words), *_events(habits.events, words)]
    sentences = [f"{part[0].upper()}{part[1:]}{templates.sentence_end}" for part in parts if part]
    return templates.sentence_separator.join(sentences)


def _facts(fields: Mapping[str, str | None], words: Wording) -> Iterable[str]:
    """One sentence a group: `Household: age 45-54, married`."""
    templates = words.templates
    for group in GROUPS:
        told = [
            text
            for known in words.fields
            if known.group == group and (text := _fact(known, fields.get(known.name), words))
        ]
        if told:
            label: str = getattr(templates, group)
            listed = templates.fact_separator.join(told)
            yield fill(templates.facts, label=label, facts=listed)


def _fact(known: ProfileField, value: str | None, words: Wording) -> str:
    told = coarse(known, value.strip(), words.templates.under_age) if value else None
    told = _value(told, words) if told else ""
    if not told:
        return ""
    if known.group == "household" and words.language == "en":
        told = _lower_words(told)
    if known.pattern is not None:
        return fill_money(known.pattern, value=told, currency=words.currency)
    name = _value(known.name.replace("_", " "), words)
    return fill(words.templates.other_fact, name=name, value=told)


def _habits_text(habits: Habits, words: Wording) -> str:
    templates = words.templates
    parts = []
    if habits.top_categories:
        names = [one_part(name) for name in habits.top_categories]
        names = [name.lower() for name in names] if words.language == "en" else names
        names = list({name.casefold(): name for name in names}.values())  # under two parents
        parts.append(fill(templates.top_categories, names=_enumerate(names, words)))
    if habits.price_band is not None:
        low, high = (f"{price:.2f}" for price in habits.price_band)
        parts.append(fill_money(templates.price_band, low=low, high=high, currency=words.currency))
    if habits.brands:
        names = [one_part(name) for name in habits.brands]
        parts.append(fill(templates.brands, names=_enumerate(names, words)))
    if habits.private_label_share is not None:
        parts.append(fill(templates.private_label, share=f"{habits.private_label_share:.0%}"))
    if habits.shopping_time:
        parts.append(_active_hours(habits.shopping_time, words))
    return templates.habit_separator.join(parts)


def _active_hours(moment: str, words: Wording) -> str:
    """`weekday evenings` in the words of the language."""
    days, hours = moment.split(" ")
    templates = words.templates
    return fill(
        templates.active_hours, days=getattr(templates, days), hours=getattr(templates, hours)
    )


def _events(events: Mapping[str, Sequence[str]], words: Wording) -> Iterable[str]:
    """One sentence a modality: `Recent searches: oat milk, tea`."""
    for modality, values in events.items():
        names = list(dict.fromkeys(filter(None, (_value(value, words) for value in values))))
        template: str = getattr(words.templates, _MODALITIES.get(modality, "other_events"))
        if names:
            listed = words.templates.list_separator.join(names)
            yield fill(template, name=_value(modality.replace("_", " "), words), names=listed)


def _value(text: str, words: Wording) -> str:
    """Make a value safe, one line, and no longer than allowed."""
    return short_name(" ".join(defang(text).split()), words.max_characters)


def _lower_words(text: str) -> str:
    """`2 Adults No Kids` -> `2 adults no kids`; ranges such as `50-74K` stay."""
    return " ".join(word.lower() if word.isalpha() else word for word in text.split())


def _enumerate(names: Sequence[str], words: Wording) -> str:
    templates = words.templates
    *first, last = names
    listed = templates.list_separator.join(first)
    return f"{listed}{templates.list_last}{last}" if first else last
