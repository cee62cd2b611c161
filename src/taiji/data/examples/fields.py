"""Profile fields: which may be told at all, how coarsely, and in which words.

A field is told only if it is on the allow-list. Ages become bands and places lose all but their
largest parts before they are text, so a prompt never holds more than the recipe allows.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from taiji.config.text import FieldSection, TextSection
from taiji.errors import ConfigError
from taiji.templates import Language, fill, suggestion

Kind = Literal["text", "age", "place"]
Group = Literal["person", "household", "device", "lifestyle"]
GROUPS: tuple[Group, ...] = ("person", "household", "device", "lifestyle")

_HOUSEHOLD = frozenset({"home_ownership", "household_size", "household_composition", "kids_count"})
_WITH_HOUSEHOLD = frozenset({"age", "income", "marital_status"})  # its head's, where one is known
_DEVICE = frozenset({"device", "phone", "phone_model", "phone_price", "os", "browser", "carrier"})
_LIFESTYLE = frozenset({"lifestyle", "hobbies", "interests", "car", "has_car", "pets", "diet"})
_PLACES = frozenset(
    {"place", "location", "address", "city", "region", "province", "state", "country"}
    | {"zip", "zip_code", "postcode", "postal_code"}
)
_UNSAID = {"kids_count": "0"}
_ALIASES = {
    "年龄": "age",
    "性别": "gender",
    "收入": "income",
    "职业": "occupation",
    "城市": "city",
    "省份": "region",
    "地区": "region",
    "地址": "address",
    "手机": "phone",
    "手机型号": "phone_model",
}

FACTS: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "age": "age {value}",
        "income": "income {value} {currency}",
        "home_ownership": "{value}",
        "marital_status": "{value}",
        "household_size": "household of {value}",
        "household_composition": "{value}",
        "kids_count": "kids: {value}",
        "gender": "{value}",
        "occupation": "works as {value}",
        "city": "lives in {value}",
        "region": "lives in {value}",
    },
    "zh": {
        "age": "年龄{value}",
        "income": "收入{value}{currency}",
        "home_ownership": "住房{value}",
        "marital_status": "婚姻{value}",
        "household_size": "家庭人数{value}",
        "household_composition": "家庭构成{value}",
        "kids_count": "孩子{value}个",
        "gender": "性别{value}",
        "occupation": "职业{value}",
        "city": "现居{value}",
        "region": "现居{value}",
    },
}
"""How well-known profile fields are told; others are told as `Templates.other_fact`."""

_NUMBER = re.compile(r"(\d{1,3})(?:\.\d+)?")
_BAND = re.compile(r"\d{1,3}\s*[-–~]\s*\d{1,3}|\d{1,3}\s*\+|[<>≤≥]\s*\d{1,3}")


@dataclass(frozen=True)
class ProfileField:
    """One field of the allow-list.

    Attributes:
        name: Its key in the users table.
        kind: How it is made coarse: `age` into bands, `place` to its largest parts.
        group: The sentence that it belongs to.
        pattern: A template with `{value}`, or None for `name: value`.
        bands: Lower bounds of the age bands; the youngest are "under" the first.
        levels: Number of parts that a place keeps, from the largest.
    """

    name: str
    kind: Kind
    group: Group
    pattern: str | None
    bands: tuple[int, ...]
    levels: int


def profile_fields(section: TextSection, declared: Sequence[str]) -> tuple[ProfileField, ...]:
    """The allow-list of a recipe, in the order in which a profile tells it.

    Args:
        section: The recipe's settings of text.
        declared: The fields that the users table has, in the source's order.

    Raises:
        ConfigError: The recipe names a field that the users table does not have.
    """
    for setting, names in (("fields", section.fields or ()), ("profile", section.profile)):
        for name in names:
            if name not in declared:
                hint = suggestion(name, list(declared)) if declared else "it has no field at all"
                raise ConfigError(
                    f"data.text.{setting}: {name}: no field of the users table: {hint}"
                )
    told = declared if section.fields is None else section.fields
    of_households = not _HOUSEHOLD.isdisjoint(map(_meaning, declared))
    return tuple(
        _field(name, section.profile.get(name, FieldSection()), section.language, of_households)
        for name in told
    )


def _field(
    name: str, chosen: FieldSection, language: Language, of_households: bool
) -> ProfileField:
    meaning = _meaning(name)
    by_name: Kind = "age" if meaning == "age" else "place" if meaning in _PLACES else "text"
    return ProfileField(
        name=name,
        kind=chosen.kind or by_name,
        group=chosen.group or _group(meaning, of_households),
        pattern=chosen.pattern or FACTS.get(language, {}).get(meaning),
        bands=chosen.bands,
        levels=chosen.levels,
    )


def _meaning(name: str) -> str:
    """`Phone model` and `phone_model` are one field; a caption in Chinese is known by its sense."""
    plain = name.strip().lower().replace(" ", "_")
    return _ALIASES.get(plain, plain)


def _group(meaning: str, of_households: bool) -> Group:
    if meaning in _HOUSEHOLD or (of_households and meaning in _WITH_HOUSEHOLD):
        return "household"
    if meaning in _DEVICE:
        return "device"
    return "lifestyle" if meaning in _LIFESTYLE else "person"


def coarse(field: ProfileField, value: str, under_age: str) -> str | None:
    """What may be told of a value; None if it cannot be made as coarse as it must be.

    An age is a number, which becomes its band, or already a band (`45-54`, `65+`). A place is
    parts from the largest, `China/Hunan/Changsha`; a part with a digit in it (a house number, a
    postcode, coordinates) ends it.

    Args:
        field: How the field is treated.
        value: As the source has it, without blanks at its ends.
        under_age: `Templates.under_age`.
    """
    match field.kind:
        case "text":
            return None if _UNSAID.get(_meaning(field.name)) == value else value
        case "age":
            return _age_band(value, field.bands, under_age)
        case "place":
            return _large_parts(value, field.levels)


def _age_band(value: str, bands: tuple[int, ...], under_age: str) -> str | None:
    number = _NUMBER.fullmatch(value)
    if number is None:
        return value if _BAND.fullmatch(value) else None
    age = int(number[1])
    above = [bound for bound in bands if bound <= age]
    if not above:
        return fill(under_age, age=str(bands[0]))
    if len(above) == len(bands):
        return f"{above[-1]}+"
    low, high = above[-1], bands[len(above)] - 1
    return f"{low}-{high}" if low < high else str(low)


def _large_parts(value: str, levels: int) -> str | None:
    kept: list[str] = []
    for part in (part.strip() for part in value.split("/")[:levels]):
        if not part or any(char.isdigit() for char in part):
            break
        kept.append(part)
    return " ".join(kept) or None
