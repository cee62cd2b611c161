"""Opening a source: files are found, text is rewritten, the engine knows each table by name.

Everything that can be said without reading a row is said here, about all tables at once:
missing files and columns, columns of the wrong kind, times without a clock.
"""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taiji.config.mapping import (
    CategoryField,
    KindField,
    NumberField,
    RawTable,
    TextField,
    TimeField,
    UsersTable,
)
from taiji.config.sources import TablesSource
from taiji.data.engine.protocol import Engine
from taiji.data.problems import Problem, UnusableError
from taiji.data.tables.expressions import Columns, identifier, literal
from taiji.data.tables.files import Kind, kind_of, open_files
from taiji.data.tables.mapping import View
from taiji.data.tables.text_files import FILE, ROW, Reading
from taiji.data.tables.unreadable import unreadable

Field = TextField | KindField | TimeField | NumberField | CategoryField


@dataclass(frozen=True)
class Opened:
    """A table of a source.

    Attributes:
        name: Which canonical table it feeds.
        label: What errors call it.
        section: Its part of the recipe.
        view: How SQL reads it.
        reading: What did not parse.
    """

    name: str
    label: str
    section: RawTable
    view: View
    reading: Reading


def open_source(engine: Engine, source: TablesSource, work: Path) -> list[Opened]:
    """Open every table of a source.

    Raises:
        UnusableError: Files or columns are missing or of the wrong kind; all are named.
    """
    opened, problems = [], list[Problem]()
    for number, (name, table) in enumerate(_tables(source)):
        try:
            one = _open(engine, source, name, table, number, work / str(number))
        except UnusableError as error:
            problems.extend(error.problems)
            continue
        problems.extend(_misfits(one))
        opened.append(one)
    if problems:
        raise UnusableError(*problems)
    return opened


def column_of(section: RawTable, field: str) -> str:
    """The columns behind a field, as words for a person."""
    value = getattr(section, field, None)
    return ", ".join(_columns(value)) if isinstance(value, Field) else ""


def _tables(source: TablesSource) -> Iterator[tuple[str, RawTable]]:
    yield "items", source.items
    if source.users is not None:
        yield "users", source.users
    for name in ("interactions", "exposures", "events"):
        for table in getattr(source, name):
            yield name, table


def _open(
    engine: Engine, source: TablesSource, name: str, table: RawTable, number: int, work: Path
) -> Opened:
    fields = list(_fields(table))
    exploded = table.explode.names if table.explode else ()
    wanted = {column for _, field in fields for column in _columns(field)} | set(table.only)
    wanted = wanted - set(exploded) | ({table.explode.column} if table.explode else set())
    relation, reading = f"raw_{number}", Reading()
    if table.table is not None:
        label = table.table
        relation = ".".join(map(identifier, label.split(".")))
        with unreadable("E101", label, "name a table that the engine knows, or give files"):
            schema = engine.query(f"SELECT * FROM {relation} LIMIT 0").schema
        kinds = {column.name: kind_of(column.type) for column in schema}
    else:
        lists = {
            c for _, f in fields if isinstance(f, CategoryField) and f.list for c in _columns(f)
        }
        folder = Path(source.path).expanduser()
        files = open_files(table, folder, work, wanted=wanted, lists=lists)
        label, reading, kinds = files.label, files.reading, dict(files.columns)
        if files.numbered:
            kinds |= {FILE: "text", ROW: "whole"}
        engine.read(relation, [str(path) for path in files.paths])
    if table.explode is not None and table.explode.column in kinds:
        relation = _exploded(table, relation)
        kinds |= dict.fromkeys(exploded, "text")
    return Opened(
        name, label, table, View(relation, number, Columns(kinds, source.missing)), reading
    )


def _exploded(table: RawTable, relation: str) -> str:
    """One row for each part of a column; a blank one gives one row of nulls, to be refused."""
    section = table.explode
    assert section is not None
    column = f"trim(coalesce({identifier(section.column)}, ''))"
    parts = ", ".join(
        f"split_part(part, {literal(section.inner)}, {number}) AS {identifier(name)}"
        for number, name in enumerate(section.names, start=1)
    )
    pattern = literal(re.escape(section.separator))
    return (
        f"(SELECT whole.*, {parts} FROM {relation} AS whole "
        f"LATERAL VIEW explode(split({column}, {pattern})) parts AS part)"
    )


def _fields(table: RawTable) -> Iterator[tuple[str, Field]]:
    for name in type(table).model_fields:
        value = getattr(table, name)
        if isinstance(value, Field):
            yield name, value
    if isinstance(table, UsersTable):
        for label, field in table.profile.items():
            yield f"profile.{label}", field


def _columns(field: Field) -> tuple[str, ...]:
    match field:
        case TextField():
            return field.columns
        case CategoryField():
            one = () if field.column is None else (field.column,)
            return (*(field.columns or ()), *(field.flags or ()), *one)
        case _:
            return () if field.column is None else (field.column,)


def _misfits(opened: Opened) -> Iterator[Problem]:
    """Columns that are missing, and those that cannot be what the recipe says."""
    kinds = opened.view.columns.kinds
    known = sorted(set(kinds) - {FILE, ROW})
    needs = [
        (name, column, field)
        for name, field in _fields(opened.section)
        for column in _columns(field)
    ]
    words = [(f"only.{column}", column) for column in opened.section.only]
    if opened.section.explode is not None:
        words.append(("explode.column", opened.section.explode.column))
    for name, column in [*((name, column) for name, column, _ in needs), *words]:
        if column not in kinds:
            close = difflib.get_close_matches(column, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"columns here: {', '.join(known)}"
            where = f"{opened.label}: {opened.name}.{name}"
            yield Problem("E101", where, f"no column {column}", hint, fatal=True)
    for name, column, field in needs:
        if column in kinds and (found := _misfit(field, kinds[column])):
            code, what, mend = found
            where = f"{opened.label}: {opened.name}.{name} (column {column})"
            yield Problem(code, where, what, mend, fatal=True)


def _misfit(field: Field, kind: Kind) -> tuple[str, str, str] | None:
    as_list = isinstance(field, CategoryField) and field.list
    if as_list and kind != "list":
        return "E102", "holds no lists", "leave list out; for a path in one text set separator"
    if kind in ("list", "other") and not as_list:
        mend = "set list: true for categories" if kind == "list" else "flatten it into columns"
        return "E102", "holds nested values", mend
    if isinstance(field, TimeField):
        return _misfit_time(field, kind)
    return None


def _misfit_time(field: TimeField, kind: Kind) -> tuple[str, str, str] | None:
    if kind in ("whole", "number") and field.format == "iso":
        return "E109", "holds numbers", "set format: s, ms or us, whichever counts from 1970"
    if kind in ("moment", "zoned") and field.format != "iso":
        return "E109", "holds times already", "leave format out"
    if kind == "moment" and field.timezone is None:
        return "E109", "times carry no zone", "set timezone, such as Europe/Berlin or UTC"
    return None
