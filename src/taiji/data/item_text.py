"""An item as text: the one form in which prompts, answers, rewards and judges name it.

Names are cut where a reader sees a border: never inside a letter with its marks or an emoji.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import regex

from taiji.safe_text import defang

SEPARATOR = "; "
"""Between the parts of an item and of a history line, in every language: answers are read by it."""

ELLIPSIS = "…"

CategoryPath = tuple[str, ...]
"""Levels of a category from the top down, as `plain_name` writes them."""

_PARTS = ("title", "category_l1", "category_l2", "category_l3")

_GRAPHEME = regex.compile(r"\X")


def cut(text: str, max_characters: int) -> str:
    """`text` in at most `max_characters` code points, the last an ellipsis if anything was cut.

    The border lies between two graphemes of Unicode (UAX 29), so an accent stays with its
    letter, a flag keeps both halves and a family stays together. Where the very first grapheme
    is too long, only the ellipsis is left. The time is linear in the length.
    """
    if len(text) <= max_characters:
        return text
    stop = 0
    for grapheme in _GRAPHEME.finditer(text):
        if grapheme.end() >= max_characters:  # one place is the ellipsis's
            break
        stop = grapheme.end()
    return text[:stop].rstrip() + ELLIPSIS


def item_text(item: Mapping[str, Any]) -> str:
    """Return `title; L1; L2; L3`, the form of every answer (missing levels left out).

    Args:
        item: A row of `schema.ITEMS`.
    """
    return SEPARATOR.join(one_part(item[name]) for name in _PARTS if item[name])


def item_texts(items: pa.Table) -> list[str]:
    """`item_text` of each row of a table, in their order."""
    columns = (items[name].to_pylist() for name in _PARTS)
    return [
        SEPARATOR.join(one_part(part) for part in parts if part)
        for parts in zip(*columns, strict=True)
    ]


def plain_name(text: str) -> str:
    """A name as an answer would write it, without regard to case and white space."""
    return one_part(text).casefold()


def category_path(row: Mapping[str, str | None]) -> CategoryPath:
    """The category of an item, from the top down."""
    return complete_path([row[f"category_l{level}"] for level in (1, 2, 3)])


def complete_path(levels: Sequence[str | None]) -> CategoryPath:
    """Levels from the top down to the first gap: a category is known by its full path."""
    path: list[str] = []
    for level in levels:
        if not level:
            break
        path.append(plain_name(level))
    return tuple(path)


def one_part(text: str) -> str:
    """Make one part of a `;`-separated text safe and free of the separator."""
    return " ".join(defang(text).replace(";", ",").split())


def short_name(text: str, max_characters: int) -> str:
    """Cut a name at a border between graphemes; see `cut`."""
    return defang(cut(text, max_characters))
