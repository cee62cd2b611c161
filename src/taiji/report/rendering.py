"""How a page is made: templates that escape everything, one script, a policy that allows no more.

The policy lets a page use its own style and the one script whose digest it names; it may ask
nothing of any network, or, where it is served, of the server that it came from alone. So a title
or a chain of thought that carries markup can be nothing but text.
"""

import base64
import hashlib
import json
import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from taiji.report.cells import NOT_APPLICABLE, NOT_RUN, point_text, range_text
from taiji.schema import OUTSIDE

_HERE = Path(__file__).parent
# Controls of direction and invisible spaces. Joiners stay: emoji and Persian need them.
_HIDDEN = frozenset(
    "\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
_IN_SCRIPT = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def render(template: str, *, served: bool = False, **values: Any) -> str:
    """A page as one string of HTML.

    Args:
        template: Its file beside this one.
        served: Whether `taiji ui` hands it out, so that it may ask that server for more.
        values: What the template names.
    """
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template(template)
        .render(
            script=markupsafe.Markup(script),
            policy=content_policy(script, served=served),
            served=served,
            **values,
        )
    )


def content_policy(script: str, *, served: bool) -> str:
    """What a page may do, as the header Content-Security-Policy has it."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = "'self'" if served else "'none'"
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        f"img-src data:; connect-src {own}; base-uri 'none'; form-action {own}"
    )


def script_policy(*, served: bool) -> str:
    """The policy of every page that `render` makes."""
    return content_policy((_HERE / "page.js").read_text(encoding="utf-8"), served=served)


def json_island(value: Mapping[str, Any]) -> markupsafe.Markup:
    """JSON that can stand inside a script element: no text in it can end the element."""
    text = json.dumps(seen(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return markupsafe.Markup(text.encode("utf-8", "replace").decode().translate(_IN_SCRIPT))


def seen(value: Any) -> Any:
    """Make characters visible that would reorder, hide or break the text around them."""
    if type(value) is str:  # Markup is a str too, and is already what it should be
        return value if value.isprintable() else "".join(map(_visible, value))
    if isinstance(value, Mapping):
        return {key: seen(one) for key, one in value.items()}
    return [seen(one) for one in value] if isinstance(value, list | tuple) else value


def share_text(part: int, whole: int) -> str:
    """`part` of `whole` in per cent with one digit, halves to even; page.js counts the same way.

    Integers only, so that both languages print the same figure.
    """
    if whole == 0:
        return "0.0 %"
    tenths, rest = divmod(1000 * part, whole)
    tenths += 2 * rest > whole or (2 * rest == whole and tenths % 2 == 1)
    return f"{tenths // 10}.{tenths % 10} %"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: seen(value) if type(value) is str else value,
    )
    environment.filters["point"] = point_text
    environment.filters["range"] = range_text
    environment.filters["wrap"] = _breakable
    environment.globals["outside_rank"] = OUTSIDE
    environment.globals["share"] = share_text
    environment.tests["absent"] = lambda cell: cell in (NOT_APPLICABLE, NOT_RUN)
    environment.tests["measured"] = lambda cell: not isinstance(cell, str)
    return environment


def _breakable(text: str) -> markupsafe.Markup:
    """Let a long name break after its underscores."""
    return markupsafe.Markup("_<wbr>").join(text.split("_"))


def _visible(char: str) -> str:
    hidden = char in _HIDDEN or unicodedata.category(char) in {"Cc", "Cs"}
    return f"⟨U+{ord(char):04X}⟩" if hidden and char not in "\n\t" else char
