"""A column that a recipe names and a file does not have: what was most likely meant.

The commonest mistakes have a mend of their own: another separator, a name that differs in case, a
value that lies inside another.
"""

import difflib
from collections.abc import Collection, Sequence

_MOST_SHOWN = 30
_SEPARATORS = {";": "';'", "\t": '"\\t"', "|": "'|'", ",": "','", "^": "'^'", "\x01": '"\\x01"'}


def no_such_column(column: str, columns: Collection[str]) -> str:
    """What to do about a column that is not there.

    Args:
        column: As the recipe has it.
        columns: Those of the file; `a.b` is `b` inside `a`.
    """
    plain = _plain(column)
    if same := [name for name in columns if _plain(name) == plain]:
        return f"did you mean {same[0]}? Names count letter for letter"
    if inside := [name for name in columns if _plain(name.rpartition(".")[2]) == plain]:
        return f"it lies inside another: write {inside[0]}"
    if close := difflib.get_close_matches(column, columns, n=1):
        return f"did you mean {close[0]}?"
    return shown(sorted(columns))


def none_of_them(columns: Sequence[str]) -> str:
    """What to do where a file has none of the columns that are read."""
    if len(columns) == 1:
        for sign, written in _SEPARATORS.items():
            if sign in columns[0]:
                return f"its header is one column with {written} in it: set separator: {written}"
    return f"{shown(columns)} (no header? set names; one column? set separator)"


def shown(columns: Sequence[str]) -> str:
    """The columns of a file, the first of many."""
    names = [name[:40] for name in columns[:_MOST_SHOWN]]
    more = len(columns) - len(names)
    return f"columns here: {', '.join(names)}" + (f" and {more} more" if more else "")


def _plain(name: str) -> str:
    return name.strip().casefold().replace(" ", "_").replace("-", "_")
