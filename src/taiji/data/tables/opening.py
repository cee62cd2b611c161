"""Opening a source: files are found, text is rewritten, the engine knows each table by name.

Everything that can be said without reading a row is said here, about all tables at once:
missing files and columns, columns of the wrong kind, times without a clock.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from taiji.config.mapping import (
    CategoryField,
    ExplodeSection,
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
from taiji.data.tables.blocks import Reading
from taiji.data.tables.expressions import Columns, identifier, literal
from taiji.data.tables.files import RawFiles, open_files
from taiji.data.tables.mapping import View
from taiji.data.tables.parquet_files import Kind, kind_of
from taiji.data.tables.unreadable import unreadable

_MOST_SHOWN = 30

Field = TextField | KindField | TimeField | NumberField | CategoryField


@dataclass(frozen=True)
class Opened:
    """A table of a source.

    Attributes:
        name: Which canonical table it feeds.
        label: What errors call it.
        section: Its part of the recipe.
        view: How SQL reads it.
        types: Column -> its type, as errors call it; empty for text files.
        reading: What did not parse.
    """

    name: str
    label: str
    section: RawTable
    view: View
    types: dict[str, str]
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


def table_columns(table: RawTable) -> set[str]:
    """The columns that the mapping of a table reads, once its parts are rows of their own."""
    return {column for _, field in _fields(table) for column in _columns(field)} | set(table.only)


def _tables(source: TablesSource) -> Iterator[tuple[str, RawTable]]:
    yield "items", source.items
    if source.users is not None:
        yield "users", source.users
    several = {
        "interactions": source.interactions,
        "exposures": source.exposures,
        "events": source.events,
    }
    for name, tables in several.items():
        for table in tables:
            yield name, table


def _open(
    engine: Engine, source: TablesSource, name: str, table: RawTable, number: int, work: Path
) -> Opened:
    fields = list(_fields(table))
    exploded = table.explode.names if table.explode else ()
    wanted = table_columns(table)
    wanted = wanted - set(exploded) | ({table.explode.column} if table.explode else set())
    relation = f"raw_{number}"
    if table.table is not None:
        files = _engine_table(engine, table.table)
        relation = ".".join(map(identifier, table.table.split(".")))
    else:
        lists = {
            c for _, f in fields if isinstance(f, CategoryField) and f.list for c in _columns(f)
        }
        folder = Path(source.path).expanduser()
        files = open_files(table, folder, work, wanted=wanted, lists=lists)
        engine.read(relation, [str(path) for path in files.paths])
    columns = Columns(dict(files.kinds), source.missing, dict(files.names))
    if table.explode is not None and table.explode.column in files.kinds:
        relation = _exploded(table.explode, relation, columns)
    view = View(relation, number, columns, files.numbered)
    return Opened(name, files.label, table, view, files.types, files.reading)


def _engine_table(engine: Engine, name: str) -> RawFiles:
    relation = ".".join(map(identifier, name.split(".")))
    with unreadable("E101", name, "name a table that the engine knows, or give files"):
        schema = engine.query(f"SELECT * FROM {relation} LIMIT 0").schema
    kinds = {column.name: kind_of(column.type) for column in schema}
    types = {column.name: str(column.type) for column in schema}
    return RawFiles(name, (), kinds, types)


def _exploded(section: ExplodeSection, relation: str, columns: Columns) -> str:
    """One row for each part of a column; a blank one gives one row of nulls, to be refused.

    The new columns, which `columns` then knows, take names that the table does not have.
    """
    column = f"trim(coalesce({columns.name(section.column)}, ''))"
    taken = {name.lower() for name in (*columns.kinds, *columns.names.values(), "file", "row")}
    part = _free("part", taken)
    cuts = []
    for number, name in enumerate(section.names, start=1):
        columns.kinds[name], columns.names[name] = "text", _free(f"part_{number}", taken)
        cut = f"split_part({part}, {literal(section.inner)}, {number})"
        cuts.append(f"{cut} AS {columns.name(name)}")
    pattern = literal(re.escape(section.separator))
    return (
        f"(SELECT whole.*, {', '.join(cuts)} FROM {relation} AS whole "
        f"LATERAL VIEW explode(split({column}, {pattern})) {_free('parts', taken)} AS {part})"
    )


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


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
    needs = [
        (name, column, field)
        for name, field in _fields(opened.section)
        for column in _columns(field)
    ]
    words = [(f"only.{column}", column) for column in opened.section.only]
    if opened.section.explode is not None:
        words.append(("explode.column", opened.section.explode.column))
    asked = [*((name, column) for name, column, _ in needs), *words]
    if not any(column in kinds for _, column in asked):
        columns = ", ".join(dict.fromkeys(column for _, column in asked))
        mend = f"{_shown(sorted(kinds))} (no header? set names; one column? set separator)"
        yield Problem("E101", opened.label, f"has none of the columns {columns}", mend, fatal=True)
        return
    for name, column in asked:
        if column not in kinds:
            close = difflib.get_close_matches(column, kinds, n=1)
            mend = f"did you mean {close[0]}?" if close else _shown(sorted(kinds))
            where = f"{opened.label}: {opened.name}.{name}"
            yield Problem("E101", where, f"no column {column}", mend, fatal=True)
    for name, column, field in needs:
        if column in kinds and (
            found := _misfit(field, kinds[column], opened.types.get(column, "text"))
        ):
            code, what, mend = found
            where = f"{opened.label}: {opened.name}.{name} (column {column})"
            yield Problem(code, where, what, mend, fatal=True)


def _shown(columns: Sequence[str]) -> str:
    names = [name[:40] for name in columns[:_MOST_SHOWN]]
    more = len(columns) - len(names)
    return f"columns here: {', '.join(names)}" + (f" and {more} more" if more else "")


def _misfit(field: Field, kind: Kind, type_name: str) -> tuple[str, str, str] | None:
    as_list = isinstance(field, CategoryField) and field.list
    if kind == "other":
        return "E102", f"holds {type_name}", "write it as text, numbers, times or lists of text"
    if as_list and kind != "list":
        return "E102", "holds no lists", "leave list out; for a path in one text set separator"
    if kind == "list" and not as_list:
        return "E102", "holds lists", "set list: true for categories, else write one row for each"
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
