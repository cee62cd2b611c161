"""Atomic files of RecBole: tab-separated, with a type behind each name of the header.

`timestamp:float` counts seconds, a `token_seq` is separated by blanks, or by commas where any of
its cells has one. Every other column of the `.user` file becomes a field of the profile. A data
set without an `.item` file, or whose items have no title, has no text that a language model could
read, and is refused.
"""

from pathlib import Path
from typing import Any

from taiji.config.sources import RecboleSource, TablesSource
from taiji.data.problems import Problem, UnusableError


def describe(folder: Path, source: RecboleSource) -> TablesSource:
    """Return the tables of `name.inter`, `name.item` and `name.user`.

    Raises:
        UnusableError: A file or a column that is needed is missing.
    """
    inter = _Atomic(folder / f"{source.name}.inter")
    item = _Atomic(folder / f"{source.name}.item")
    tables: dict[str, Any] = {
        "items": item.table
        | {"item_id": item.column("item_id"), "title": item.column(source.title)},
        "interactions": inter.table
        | {
            "user_id": inter.column("user_id"),
            "item_id": inter.column("item_id"),
            "ts": {"column": inter.column("timestamp"), "format": "s"},
            "kind": {"constant": source.interaction},
        },
    }
    if source.liked is not None:
        rated = {"rating": inter.column("rating"), "liked": source.liked.model_dump()}
        tables["interactions"] |= rated
    if source.categories is not None:
        column = item.column(source.categories)
        path = {"column": column, "separator": item.separator_of(column)}
        tables["items"]["categories"] = path
    if (folder / f"{source.name}.user").is_file():
        user = _Atomic(folder / f"{source.name}.user")
        profile = {name: full for name, full in user.columns.items() if name != "user_id"}
        tables["users"] = user.table | {"user_id": user.column("user_id"), "profile": profile}
    return TablesSource.model_validate({"kind": "tables", "path": str(folder), **tables})


class _Atomic:
    """One file: `columns` maps a name to what the header calls it, `user_id:token`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = {"files": path.name, "format": "csv", "separator": "\t", "quote": ""}
        try:
            with path.open(encoding="utf-8-sig", errors="replace") as stream:
                header = stream.readline().strip("\r\n").split("\t")
        except OSError as error:
            mend = "set data.source.name to what stands before .inter, and keep .item beside it"
            raise _unusable(path, f"cannot be read ({error.strerror})", mend) from error
        self.columns = {full.partition(":")[0]: full for full in header}

    def separator_of(self, column: str) -> str:
        """What stands between the parts of a sequence: a comma where any cell has one.

        The format says blanks, yet Yelp and Amazon are published as `Active Life, Coffee & Tea`.
        """
        place = list(self.columns.values()).index(column)
        with self.path.open(encoding="utf-8-sig", errors="replace") as stream:
            cells = (line.rstrip("\r\n").split("\t")[place : place + 1] for line in stream)
            return ", " if any(", " in cell for one in cells for cell in one) else " "

    def column(self, name: str) -> str:
        """What the header calls a column."""
        if name not in self.columns:
            mend = f"columns here: {', '.join(self.columns)}: see data.source.title and categories"
            raise _unusable(self.path, f"no column {name}", mend)
        return self.columns[name]


def _unusable(path: Path, what: str, mend: str) -> UnusableError:
    return UnusableError(Problem("E101", str(path), what, mend, fatal=True))
