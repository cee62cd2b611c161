"""Gaps and what goes into them.

A gap is a name in braces and nothing else: no attribute, no index, no format, so a template from a
recipe can do nothing but stand there. What goes into a gap is never read as a template again.
"""

import difflib
import re

_GAP = re.compile(r"\{([a-z_]+)\}")
_UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def check_template(text: str, allowed: frozenset[str], name: str) -> None:
    """Refuse a template that could not be filled.

    Raises:
        ValueError: It has a brace that opens no gap, a gap without a filling, lacks all its
            gaps, or holds characters that no prompt should.
    """
    unknown = gaps(text) - allowed
    known = " ".join(f"{{{gap}}}" for gap in sorted(allowed)) or "no gap"
    if unknown or re.search("[{}]", _GAP.sub("", text)):
        raise ValueError(f"template {name}: a brace may only name a gap: it takes {known}")
    if allowed and not gaps(text):
        raise ValueError(f"template {name}: says nothing of the data: it takes {known}")
    if _UNPRINTABLE.search(text):
        raise ValueError(f"template {name}: holds a control character or half a character")


def gaps(text: str) -> frozenset[str]:
    """The names of a template's gaps."""
    return frozenset(_GAP.findall(text))


def fill(text: str, **values: str) -> str:
    """Put values into the gaps of a checked template; a value is never read as a template."""
    return _GAP.sub(lambda gap: values[gap[1]], text)


def fill_money(text: str, *, currency: str, **values: str) -> str:
    """As `fill`; of a currency that is not known nothing is left, not even the blank before it."""
    known = text if currency else re.sub(r" *\{currency\}", "", text).strip()
    return fill(known, currency=currency, **values)


def suggestion(name: str, known: list[str]) -> str:
    """What the writer of a recipe may have meant."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}"
