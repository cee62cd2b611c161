"""What a mapping asks of a file and the file does not have: said before any row is read."""

from collections.abc import Iterator
from dataclasses import dataclass

from taiji.config.mapping import (
    ExposuresTable,
    InteractionsTable,
    ItemsTable,
    JoinedTable,
    JoinTable,
    RawTable,
    UsersTable,
)
from taiji.config.mapping_fields import (
    CategoryField,
    KindField,
    NumberField,
    TextField,
    TimeField,
)
from taiji.data.problems import Problem
from taiji.data.tables.absent import no_such_column, none_of_them
from taiji.data.tables.blocks import Reading
from taiji.data.tables.mapping import View
from taiji.data.tables.parquet_files import Kind

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
        keys: Of a table that takes columns of another file: the ids that it looks up and those
            that the file has, as two SELECTs of `user_id`; None where nothing is joined.
    """

    name: str
    label: str
    section: RawTable
    view: View
    types: dict[str, str]
    reading: Reading
    keys: tuple[str, str] | None = None


def column_of(section: RawTable, field: str) -> str:
    """The columns behind a field, as words for a person."""
    value = dict(fields_of(section)).get(field)
    return "" if value is None else ", ".join(columns_of(value))


def table_columns(table: RawTable) -> set[str]:
    """The columns that the mapping of a table reads, once its parts are rows of
    their own; those of a joined file are not among them."""
    if isinstance(table, JoinTable):
        return {*table.key.columns, *table.columns.values()}
    columns = {column for _, field in fields_of(table) for column in columns_of(field)}
    columns |= set(table.only)
    if isinstance(table, JoinedTable) and table.join is not None:
        columns = columns - set(table.join.columns) | set(table.join.of.columns)
    return columns


def fields_of(table: RawTable) -> Iterator[tuple[str, Field]]:
    """The fields that read columns, by their names in the recipe."""
    for name in type(table).model_fields:
        value = getattr(table, name)
        if isinstance(value, Field):
            yield name, value
    if isinstance(table, UsersTable):
        for label, field in table.profile.items():
            yield f"profile.{label}", field
    if isinstance(table, ExposuresTable):
        for kind, field in table.conversions.items():
            yield f"conversions.{kind}", field
        if table.own_top is not None:
            for name, value in table.own_top:
                if isinstance(value, Field):
                    yield f"own_top.{name}", value


def columns_of(field: Field) -> tuple[str, ...]:
    """The columns that a field reads."""
    match field:
        case TextField():
            return field.columns
        case CategoryField():
            one = (name for name in (field.column, field.otherwise) if name is not None)
            return (*(field.columns or ()), *(field.flags or ()), *one)
        case _:
            return () if field.column is None else (field.column,)


def misfits(opened: Opened) -> Iterator[Problem]:
    """Columns that are missing, and those that cannot be what the recipe says."""
    kinds = opened.view.columns.kinds
    needs = [
        (name, column, field)
        for name, field in fields_of(opened.section)
        for column in columns_of(field)
    ]
    words = [(f"only.{column}", column) for column in opened.section.only]
    if opened.section.explode is not None:
        words.append(("explode.column", opened.section.explode.column))
    if isinstance(opened.section, JoinedTable) and opened.section.join is not None:
        words += [("join.of", column) for column in opened.section.join.of.columns]
    asked = [*((name, column) for name, column, _ in needs), *words]
    if not any(column in kinds for _, column in asked):
        columns = ", ".join(dict.fromkeys(column for _, column in asked))
        what, mend = f"has none of the columns {columns}", none_of_them(sorted(kinds))
        yield Problem("E101", opened.label, what, mend, fatal=True)
        return
    for name, column in asked:
        if column not in kinds:
            where, mend = f"{opened.label}: {opened.name}.{name}", no_such_column(column, kinds)
            yield Problem("E101", where, f"no column {column}", mend, fatal=True)
    yield from _unnumbered(opened)
    for name, column, field in needs:
        if column in kinds and (
            found := _misfit(field, column, kinds[column], opened.types.get(column, "text"))
        ):
            code, what, mend = found
            where = f"{opened.label}: {opened.name}.{name} (column {column})"
            yield Problem(code, where, what, mend, fatal=True)


def _misfit(field: Field, column: str, kind: Kind, type_name: str) -> tuple[str, str, str] | None:
    as_list = isinstance(field, CategoryField) and field.list and column == field.column
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


def _unnumbered(opened: Opened) -> Iterator[Problem]:
    table, what = opened.section, "rows of Parquet have no numbers here"
    if opened.view.numbered:
        return
    if isinstance(table, ItemsTable) and table.repeated in ("first", "last"):
        said = f"{table.repeated}: {what}, so none of them is {table.repeated}"
        mend = "choose most_frequent, or give csv or JSON lines"
        yield Problem("E102", f"{opened.label}: items.repeated", said, mend, fatal=True)
    if isinstance(table, InteractionsTable) and table.in_file_order:
        mend = "leave in_file_order out, name the column `line`, or give csv or JSON lines"
        yield Problem(
            "E102", f"{opened.label}: {opened.name}.in_file_order", what, mend, fatal=True
        )
