"""Cutting text where a reader sees a border: never inside a letter with its marks or an emoji."""

import regex

ELLIPSIS = "…"

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
