"""`only`: which rows of a file are meant, as a condition of SQL."""

from collections.abc import Sequence

from taiji.config.mapping import RawTable
from taiji.config.mapping_fields import OnlyField
from taiji.data.tables.expressions import Columns, literal


def wanted_sql(table: RawTable, columns: Columns) -> str:
    """A condition that holds for the rows that count; an empty word is none of those asked for."""
    parts = [
        part for name, field in table.only.items() for part in _parts(columns.word(name), field)
    ]
    return f"coalesce({' AND '.join(parts) or 'true'}, false)"


def _parts(word: str, field: OnlyField) -> list[str]:
    parts = []
    if field.any_of is not None:
        parts.append(f"{word} IN ({_listed(field.any_of)})")
    if field.begins:
        parts.append(_begins(word, field.begins))
    if field.none_of:
        parts.append(f"coalesce({word} NOT IN ({_listed(field.none_of)}), true)")
    if field.begins_not:
        parts.append(f"coalesce(NOT {_begins(word, field.begins_not)}, true)")
    if field.filled:
        parts.append(f"{word} IS NOT NULL")
    return parts


def _listed(words: Sequence[str]) -> str:
    return ", ".join(map(literal, words)) or "NULL"


def _begins(word: str, starts: Sequence[str]) -> str:
    each = (f"substr({word}, 1, {len(start)}) = {literal(start)}" for start in starts)
    return f"({' OR '.join(each)})"
