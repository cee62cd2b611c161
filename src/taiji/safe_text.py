"""The first fence against data that looks like structure: `defang`.

Titles, names and queries are written by strangers. Before any of them becomes prompt text,
whatever could be read as a tag or a control token is made harmless and stays legible. The
second fence, tokenising data apart from the scaffold, is in `taiji.language.prompt`.
"""

import re

_OPENERS = (
    "<\uff1c\ufe64"  # ASCII, full width and small form: some tokenizers fold all three into one
)
_CLOSERS = ">\uff1e\ufe65"
_LEFT, _RIGHT = "\u2039", "\u203a"  # what stands in their place
_HARMLESS = str.maketrans({**dict.fromkeys(_OPENERS, _LEFT), **dict.fromkeys(_CLOSERS, _RIGHT)})

# Removed without a trace: invisible characters that mean nothing in a title but can hide or
# reorder text. ZWJ, ZWNJ and variation selectors stay, emoji and some scripts need them.
_INVISIBLE = (
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u2060-\u2064\ufeff\ufff9-\ufffb"
    "\u202a-\u202e\u2066-\u206f"  # bidi embeddings, overrides and isolates
    "\U000e0000-\U000e007f"  # tag characters: ASCII that nobody sees
)
_BREAKS = re.compile("[\t-\r\x1c-\x1f\x85\u2028\u2029]+")
_REMOVED = re.compile(f"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f{_INVISIBLE}]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_SUSPECT = re.compile(f"[{_OPENERS}\\[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff{_INVISIBLE}]")

_WORD = re.compile(r"\S+")
# `3 < 5`, `2<3`, `<$5`, `<=`: a bracket that compares. Before anything else, or at the end of a
# text that will be joined to another one, it may open a tag.
_OPENS_A_TAG = re.compile(rf"[{_OPENERS}](?![\s\d=$€£.,-])")
_SQUARE = re.compile(r"\[(/?\w{1,64})\]")
_SQUARE_CONTROL = re.compile(r"/|_|[A-Z]{2}|^unused")


def defang(text: str) -> str:
    """Make tags and control tokens in `text` harmless; ordinary text comes back unchanged.

    `<think>` becomes `‹think›` and `[INST]` becomes `⟦INST⟧`, whatever the word inside, so that
    neither a tokenizer nor a parser nor a remote chat server can take it for structure. Line
    breaks become spaces; control, bidirectional and invisible characters go; a lone surrogate
    becomes U+FFFD. Comparisons (`2<3 oz`, `a -> b`), accents, CJK and emoji stay.

    The result is one line, is valid UTF-8 and does not change when defanged again. The time is
    linear in the length, whatever the text.
    """
    if not _SUSPECT.search(text):
        return text
    text = _BREAKS.sub(" ", text)
    text = _REMOVED.sub("", text)
    text = _SURROGATES.sub("\ufffd", text)
    text = _WORD.sub(_defang_pairs, text)
    text = _OPENS_A_TAG.sub(_LEFT, text)
    return _SQUARE.sub(_defang_square, text)


def printable(text: str) -> str:
    """`text` for a terminal: line breaks stay, whatever could move the cursor or turn the
    direction of writing becomes `?`."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def _defang_pairs(match: re.Match[str]) -> str:
    """Replace all angle brackets of a word between its first opener and its last closer."""
    word = match.group()
    first = min((i for i in map(word.find, _OPENERS) if i >= 0), default=len(word))
    stop = max(map(word.rfind, _CLOSERS)) + 1
    if stop <= first:
        return word
    return word[:first] + word[first:stop].translate(_HARMLESS) + word[stop:]


def _defang_square(match: re.Match[str]) -> str:
    """Replace square brackets around what is written like a control word, not `[new]`."""
    name = match.group(1)
    return f"⟦{name}⟧" if _SQUARE_CONTROL.search(name) else match.group()
