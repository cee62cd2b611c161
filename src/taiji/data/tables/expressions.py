"""Words, numbers and moments out of columns, as Spark SQL.

Each function returns the text of an expression. Spark and DuckDB give the same for all of
them, but for the hour that a change of summer time repeats: Spark takes its first pass,
DuckDB its second.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from taiji.config.mapping_fields import CategoryField, NumberField, TextField, TimeField
from taiji.data.tables.parquet_files import Kind

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
_DATE = "([0-9]{4}-[0-9]{2}-[0-9]{2})"
_PLAIN = f"^{_DATE}([Tt ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{{1,6}})?)?)?$"
_OFFSET = "([+-])(0?[0-9]|1[0-4])(?::?([0-5][0-9]))?"
_CLOCK = "([01][0-9]|2[0-3])(?::?([0-5][0-9])(?::?([0-5][0-9])(?:[.,]([0-9]{1,6})[0-9]*)?)?)?"
# Date, hour, minute, second, fraction, zone, sign, hours, minutes.
_ISO = (
    f"^{_DATE}[Tt ]{_CLOCK} ?((?i:Z|UTC|GMT)|(?i:UTC|GMT)?{_OFFSET}(?:\\[[A-Za-z0-9_/+-]+\\])?)?$"
)
_NUMBER = r"^[+-]?([0-9]+{0}?[0-9]*|{0}[0-9]+)([eE][+-]?[0-9]+)?$"
_WHOLE_AS_FLOAT = r"^-?[0-9]+\.0$"
_ROUNDED = r"^-?[0-9]([.,][0-9]+)?[eE][+][0-9]+$"
_MOST_EXACT = 2**53  # beyond it a float no longer counts one by one
_FARTHEST = 250_000_000_000_000_000  # microseconds, about the year 9892

NUMBER_LIMIT = 1e15
"""Beyond this a double no longer counts one by one."""


@dataclass(frozen=True)
class Columns:
    """The columns of one table, and which words in them stand for nothing.

    Attributes:
        kinds: Column -> what it holds.
        names: Column -> what the engine calls it, where that differs.
    """

    kinds: dict[str, Kind]
    missing: Sequence[str] = ()
    names: dict[str, str] = field(default_factory=dict)

    def name(self, column: str) -> str:
        """A column as SQL calls it."""
        return identifier(self.names.get(column, column))

    def word(self, column: str) -> str:
        """A column as trimmed text; null for blanks, NaN and missing words. 3.0 reads 3."""
        name = self.name(column)
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

    def key(self, field: TextField) -> str:
        """An id. Text such as `3.0` is the 3 that a table with gaps made a float of."""
        if field.column is None or self.kinds[field.column] != "text":
            return self.text(field)
        word = self.word(field.column)
        whole = f"{word} LIKE '%.0' AND {word} RLIKE {literal(_WHOLE_AS_FLOAT)}"
        cut = f"CASE WHEN {whole} THEN substr({word}, 1, length({word}) - 2) ELSE {word} END"
        return _renamed(cut, field.values)

    def is_rounded(self, field: TextField) -> str:
        """Whether an id was a float too large to be exact, such as 1.23457E+17."""
        match None if field.column is None else self.kinds[field.column]:
            case "number":
                return f"coalesce(abs({self.name(field.column or '')}) >= {_MOST_EXACT}, false)"
            case "text":
                word = self.word(field.column or "")
                return f"coalesce({word} LIKE '%+%' AND {word} RLIKE {literal(_ROUNDED)}, false)"
        return "false"

    def number(self, field: NumberField) -> str:
        """A double in the field's unit; null also where the text is no number.

        A sign that the field does not name, such as the dots of 1.299 where the comma is the
        decimal sign, makes it none: read as the other sign it would be a thousandth.
        """
        text = self.word(field.column)
        if self.kinds[field.column] == "text":
            if field.strip:
                text = f"trim(translate({text}, {literal(field.strip)}, ''))"
            value = _parsed(text, field.decimal)
        else:
            value = f"try_cast({text} as double)"
        value = value if field.unit == 1 else f"{value} * cast({field.unit!r} as double)"
        return f"CASE WHEN abs({value}) < {NUMBER_LIMIT} THEN {value} END"

    def levels(self, field: CategoryField) -> list[str]:
        """Three expressions, the top level first; null below the last one."""
        if field.columns is not None:
            levels = [self.word(column) for column in field.columns]
        elif field.flags is not None:
            flags = field.flags.items()
            whens = [f"WHEN {is_one(self.word(flag))} THEN {literal(name)}" for flag, name in flags]
            levels = [f"CASE {' '.join(whens)} END"]
        elif field.list:
            column = self.name(field.column or "")
            levels = [
                known(f"cast(try_element_at({column}, {number}) as string)", self.missing)
                for number in (1, 2, 3)
            ]
        elif field.separator is not None:
            path, separator = self.word(field.column or ""), literal(field.separator)
            levels = [
                known(f"split_part({path}, {separator}, {number})", self.missing)
                for number in (1, 2, 3)
            ]
        else:
            levels = [self.word(field.column or "")]
        if field.otherwise is not None:
            levels[0] = f"coalesce({levels[0]}, {self.word(field.otherwise)})"
        levels = levels[: field.levels]
        return levels + ["cast(NULL as string)"] * (3 - len(levels))

    def moment(self, field: TimeField) -> str:
        """A plain timestamp in UTC; null where the text is no time."""
        column, kind = self.name(field.column), self.kinds[field.column]
        if kind == "zoned":
            return f"cast({column} as timestamp_ntz)"
        if kind == "moment":
            return _from_local(f"cast({column} as timestamp_ntz)", field.timezone)
        text = self.word(field.column)
        if field.format in _SCALE:
            micros = f"{_parsed(text, '.')} * {_SCALE[field.format]}"
            inside = f"abs({micros}) < {_FARTHEST}"
            shift = f"timestampadd(MICROSECOND, cast(round({micros}) as bigint), {_EPOCH})"
            return f"CASE WHEN {inside} THEN {shift} ELSE {_beyond(micros)} END"
        if field.format == "iso":
            plain = _from_local(f"try_cast({text} as timestamp_ntz)", field.timezone)
            return (
                f"CASE WHEN {text} RLIKE {literal(_PLAIN)} THEN {plain} "
                f"WHEN {text} RLIKE {literal(_ISO)} THEN {_by_iso(text, field.timezone)} END"
            )
        return _from_local(_by_pattern(text, field.format), field.timezone)

    def has_zone(self, field: TimeField) -> str:
        """Whether the moment is a fixed one: by its type, its text, or the recipe."""
        kind = self.kinds[field.column]
        if field.timezone or field.format in _SCALE or kind == "zoned":
            return "true"
        if kind == "moment" or field.format != "iso":
            return "false"
        return f"coalesce({_iso_part(self.word(field.column), 6)} <> '', false)"


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


def is_one(word: str) -> str:
    """Whether a word says yes: 1, 1.0 or true."""
    return f"lower({word}) IN ('1', '1.0', 'true')"


def _parsed(text: str, decimal: str) -> str:
    """A double of plain digits; null for what an engine of its own would read, as 1_000 or 1d."""
    pattern = _NUMBER.format("[.]" if decimal == "." else ",")
    digits = text if decimal == "." else f"replace({text}, ',', '.')"
    return f"CASE WHEN {text} RLIKE {literal(pattern)} THEN try_cast({digits} as double) END"


def _iso_part(text: str, number: int) -> str:
    return f"regexp_extract({text}, {literal(_ISO)}, {number})"


def _by_iso(text: str, zone: str | None) -> str:
    """A moment with an offset of its own, or in a form that engines do not read alike."""
    date, hour, minute, second, fraction = (_iso_part(text, number) for number in range(1, 6))
    sign, hours, minutes = (_iso_part(text, number) for number in (7, 8, 9))
    clock = (
        f"{hour}, ':', {_or_zero(minute)}, ':', {_or_zero(second)}, '.', rpad({fraction}, 6, '0')"
    )
    local = f"try_cast(concat({date}, ' ', {clock}) as timestamp_ntz)"
    offset = f"(cast({_or_zero(hours)} as int) * 60 + cast({_or_zero(minutes)} as int))"
    shift = f"CASE WHEN {sign} = '-' THEN {offset} ELSE -{offset} END"
    return (
        f"CASE WHEN {_iso_part(text, 6)} <> '' THEN timestampadd(MINUTE, {shift}, {local}) "
        f"ELSE {_from_local(local, zone)} END"
    )


def _or_zero(digits: str) -> str:
    return f"CASE WHEN {digits} = '' THEN '00' ELSE {digits} END"


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
