"""What a prompt says of an item, of one interaction and of a user.

Everything missing is left out, never written as `None`. Fields stand in a fixed order, so
the same facts give the same text. All text from the log goes through `defang` here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from taiji.safe_text import defang

CURRENCY = "USD"

_DEMOGRAPHICS = {
    "age": "age {}",
    "income": "income {} " + CURRENCY,
    "home_ownership": "{}",
    "marital_status": "{}",
    "household_size": "household of {}",
    "household_composition": "{}",
    "kids_count": "kids: {}",
}
_STEPS = ((365, "year"), (30, "month"), (7, "week"), (1, "day"))


@dataclass(frozen=True)
class Habits:
    """A user's behaviour before one cut-off.

    Attributes:
        top_categories: The most frequent second-level categories, most frequent first.
        price_band: Lower and upper quartile of the unit prices paid.
        private_label_share: Share of the interactions with a known brand that are private label.
        shopping_time: When most orders are placed, such as `weekday evenings`.
    """

    top_categories: tuple[str, ...] = ()
    price_band: tuple[float, float] | None = None
    private_label_share: float | None = None
    shopping_time: str | None = None


def item_text(title: str, l1: str | None, l2: str | None, l3: str | None) -> str:
    """Return `title; L1; L2; L3`, the form of every answer (missing levels left out)."""
    return "; ".join(_part(part) for part in (title, l1, l2, l3) if part)


def history_line(item: str, price: float | None, before: timedelta) -> str:
    """Return one interaction: the item's text, the unit price and its age at the cut-off."""
    parts = [item]
    if price is not None:
        parts.append(f"{price:.2f} {CURRENCY}")
    parts.append(f"{_age(before)} before")
    return "; ".join(parts)


def profile_text(demographics: Mapping[str, str | None], habits: Habits) -> str:
    """Return who the user is and how they buy, in two short sentences at most.

    Args:
        demographics: Columns of the users table; unknown columns are not shown.
        habits: Figures of the interactions strictly before the cut-off.
    """
    known = [
        pattern.format(_lower_words(defang(value)))
        for column, pattern in _DEMOGRAPHICS.items()
        if (value := demographics.get(column)) and (column, value) != ("kids_count", "0")
    ]
    sentences = (_sentence("Household: ", ", ".join(known)), _sentence("", _habits_text(habits)))
    return " ".join(sentence for sentence in sentences if sentence)


def _habits_text(habits: Habits) -> str:
    parts = []
    if habits.top_categories:
        names = [_part(name).lower() for name in habits.top_categories]
        parts.append(f"Buys mostly {_enumerate(names)}")
    if habits.price_band is not None:
        low, high = habits.price_band
        parts.append(f"usually pays {low:.2f} to {high:.2f} {CURRENCY}")
    if habits.private_label_share is not None:
        parts.append(f"{habits.private_label_share:.0%} private label")
    if habits.shopping_time:
        parts.append(f"shops mostly on {habits.shopping_time}")
    return "; ".join(parts)


def _age(before: timedelta) -> str:
    """Return the largest whole unit, rounded down; never less than an hour: `3 weeks`."""
    for num_days, unit in _STEPS:
        if before.days >= num_days:
            return _count(before.days // num_days, unit)
    return _count(max(1, before.seconds // 3600), "hour")


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _part(text: str) -> str:
    """Make one part of a `;`-separated text safe and free of the separator."""
    return " ".join(defang(text).replace(";", ",").split())


def _lower_words(text: str) -> str:
    """`2 Adults No Kids` -> `2 adults no kids`; ranges such as `50-74K` stay."""
    return " ".join(word.lower() if word.isalpha() else word for word in text.split())


def _enumerate(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _sentence(start: str, text: str) -> str:
    text = start + text if text else ""
    return f"{text[0].upper()}{text[1:]}." if text else ""
