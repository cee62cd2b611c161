"""Words, numbers and moments out of columns, as Spark SQL.

Each function returns the text of an expression. Spark and DuckDB give the same for all of
them, but for the hour that a change of summer time repeats: Spark takes its first pass,
DuckDB its second.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from taiji.config.mapping import CategoryField, NumberField, TextField, TimeField
from taiji.data.tables.files import Kind

_SCALE = {"s": 1_000_000, "ms": 1_000, "us": 1}
_CODES = {
    "Y": "([0-9]{4})",
    "m": "([0-9]{1,2})",
    "d": "([0-9]{1,2})",
    "H": "([0-9]{1,2})",
    "I": "(0?[1-9]|1[0-2])",
    "M": "([0-9]{1,2})",
    "S": "([0-9]{1,2})",
    "p": "([AaPp])\\.?[Mm]\\.?",
}
_DATE = "^[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ZONE = ":[0-9.]+ *(Z|z|[+-][0-9]{2}(:?[0-9]{2})?)$"
_FARTHEST = 250_000_000_000_000_000  # microseconds, about the year 9892

NUMBER_LIMIT = 1e15
"""Beyond this a double no longer counts one by one."""


@dataclass(frozen=True)
class Columns:
    """The columns of one table, and which words in them stand for nothing."""

    kinds: dict[str, Kind]
    missing: Sequence[str] = ()

    def word(self, column: str) -> str:
        """A column as trimmed text; null for blanks, NaN and missing words. 3.0 reads 3."""
        name = identifier(column)
        text = f"cast({name} as string)"
        if self.kinds[column] == "number":
            whole = f"cast(try_cast({name} as bigint) as string)"
            text = (
                f"CASE WHEN isnan(cast({name} as double)) THEN NULL "
                f"WHEN {name} = try_cast({name} as bigint) THEN {whole} ELSE {text} END"
            )
        return known(text, self.missing)

    def text(self, field: TextField) -> str:
        """A column, a fixed word, or a template."""
        if field.constant is not None:
            return literal(field.constant)
        if field.column is not None:
            return _renamed(self.word(field.column), field.values)
        parts = re.split(r"\{([^{}]+)\}", field.template or "")
        joined = ", ".join(
            f"coalesce({self.word(part)}, '')" if number % 2 else literal(part)
            for number, part in enumerate(parts)
            if part
        )
        some = ", ".join(self.word(column) for column in field.columns)
        squeezed = f"trim(regexp_replace(concat({joined}), ' +', ' '))"
        return f"CASE WHEN coalesce({some}) IS NOT NULL THEN {squeezed} END"

    def number(self, field: NumberField) -> str:
        """A double in the field's unit; null also where the text is no number."""
        text = self.word(field.column)
        if field.strip:
            text = f"trim(translate({text}, {literal(field.strip)}, ''))"
        if field.decimal == ",":
            text = f"replace({text}, ',', '.')"
        value = f"try_cast({text} as double)"
        value = value if field.unit == 1 else f"{value} * cast({field.unit!r} as double)"
        return f"CASE WHEN abs({value}) < {NUMBER_LIMIT} THEN {value} END"

    def levels(self, field: CategoryField) -> list[str]:
        """Three expressions, the top level first; null below the last one."""
        if field.columns is not None:
            levels = [self.word(column) for column in field.columns]
        elif field.flags is not None:
            flags = field.flags.items()
            whens = [f"WHEN {self.word(flag)} = '1' THEN {literal(name)}" for flag, name in flags]
            levels = [f"CASE {' '.join(whens)} END"]
        elif field.list:
            column = identifier(field.column or "")
            levels = [
                known(f"try_element_at({column}, {number})", self.missing) for number in (1, 2, 3)
            ]
        elif field.separator is not None:
            path, separator = self.word(field.column or ""), literal(field.separator)
            levels = [
                known(f"split_part({path}, {separator}, {number})", self.missing)
                for number in (1, 2, 3)
            ]
        else:
            levels = [self.word(field.column or "")]
        levels = levels[: field.levels]
        return levels + ["cast(NULL as string)"] * (3 - len(levels))

    def moment(self, field: TimeField) -> str:
        """A plain timestamp in UTC; null where the text is no time."""
        column, kind = identifier(field.column), self.kinds[field.column]
        if kind == "zoned":
            return f"cast({column} as timestamp_ntz)"
        if kind == "moment":
            return _from_local(f"cast({column} as timestamp_ntz)", field.timezone)
        text = self.word(field.column)
        if field.format in _SCALE:
            micros = f"try_cast({text} as double) * {_SCALE[field.format]}"
            inside = f"abs({micros}) < {_FARTHEST}"
            shift = f"timestampadd(MICROSECOND, cast(round({micros}) as bigint), {_EPOCH})"
            return f"CASE WHEN {inside} THEN {shift} ELSE {_beyond(micros)} END"
        if field.format == "iso":
            zoned = f"cast(try_cast({text} as timestamp) as timestamp_ntz)"
            local = _from_local(f"try_cast({text} as timestamp_ntz)", field.timezone)
            return (
                f"CASE WHEN NOT {text} RLIKE {literal(_DATE)} THEN NULL "
                f"WHEN {text} RLIKE {literal(_ZONE)} THEN {zoned} ELSE {local} END"
            )
        return _from_local(_by_pattern(text, field.format), field.timezone)

    def has_zone(self, field: TimeField) -> str:
        """Whether the moment is a fixed one: by its type, its text, or the recipe."""
        kind = self.kinds[field.column]
        if field.timezone or field.format in _SCALE or kind == "zoned":
            return "true"
        if kind == "moment" or field.format != "iso":
            return "false"
        return f"{self.word(field.column)} RLIKE {literal(_ZONE)}"


_EPOCH = "timestamp_ntz '1970-01-01 00:00:00'"


def known(text: str, missing: Sequence[str] = ()) -> str:
    """Trimmed text; null for blanks and for words that stand for nothing."""
    trimmed = f"nullif(trim({text}), '')"
    if not missing:
        return trimmed
    words = ", ".join(literal(word) for word in missing)
    return f"CASE WHEN {trimmed} NOT IN ({words}) THEN {trimmed} END"


def literal(text: str) -> str:
    """Text as a literal of Spark SQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def identifier(name: str) -> str:
    """A name as Spark SQL quotes it."""
    doubled = name.replace("`", "``")
    return f"`{doubled}`"


def _renamed(word: str, values: dict[str, str]) -> str:
    if not values:
        return word
    whens = " ".join(f"WHEN {literal(old)} THEN {literal(new)}" for old, new in values.items())
    return f"CASE {word} {whens} ELSE {word} END"


def _beyond(micros: str) -> str:
    """A readable number that is no year of ours stays a moment, so that it is told as one."""
    return f"CASE WHEN {micros} IS NOT NULL THEN timestamp_ntz '9999-01-01 00:00:00' END"


def _from_local(moment: str, zone: str | None) -> str:
    if zone in (None, "UTC"):
        return moment
    return f"cast(to_utc_timestamp({moment}, {literal(zone or '')}) as timestamp_ntz)"


def _by_pattern(text: str, pattern: str) -> str:
    """Take a text apart by %-codes and put it together as ISO, which both engines read alike."""
    pieces = re.split(r"%([YmdHIMSp])", pattern)
    regex = "".join(
        _CODES[piece] if number % 2 else re.escape(piece) for number, piece in enumerate(pieces)
    )
    places = {code: number for number, code in enumerate(pieces[1::2], start=1)}

    def part(code: str) -> str:
        if code not in places:
            return "'00'"
        width = 4 if code == "Y" else 2
        found = f"regexp_extract({text}, {literal(f'^{regex}$')}, {places[code]})"
        return f"lpad({found}, {width}, '0')"

    hour = part("H")
    if "I" in places:
        half = (
            f"CASE WHEN lower({part('p')}) LIKE '%p' THEN 12 ELSE 0 END" if "p" in places else "0"
        )
        number = f"try_cast({part('I')} as int)"
        hour = f"lpad(cast({number} % 12 + {half} as string), 2, '0')"
    date = f"{part('Y')}, '-', {part('m')}, '-', {part('d')}"
    clock = f"{hour}, ':', {part('M')}, ':', {part('S')}"
    return f"try_cast(concat({date}, ' ', {clock}) as timestamp_ntz)"
