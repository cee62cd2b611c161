"""Opening a source: files are found, text is rewritten, the engine knows each table by name.

Everything that can be said without reading a row is said here, about all tables at once:
missing files and columns, columns of the wrong kind, times without a clock.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from taiji.config.mapping import JoinedTable, RawTable
from taiji.config.mapping_fields import CategoryField, ExplodeSection
from taiji.config.sources import TablesSource
from taiji.data.engine.protocol import Engine
from taiji.data.problems import Problem, UnusableError
from taiji.data.tables.blocks import Reading
from taiji.data.tables.expressions import Columns, identifier, literal
from taiji.data.tables.files import RawFiles, open_files
from taiji.data.tables.joined import free_name, join_sql
from taiji.data.tables.mapping import View
from taiji.data.tables.misfits import Opened, fields_of, misfits, table_columns
from taiji.data.tables.parquet_files import kind_of
from taiji.data.tables.unreadable import unreadable


class _Files:
    """The files of a source, each read once however many tables it feeds.

    Lines of orders often give items, users and interactions alike; an impression gives exposures
    and clicks. Such tables share what was rewritten, with the columns of all of them.
    """

    def __init__(self, engine: Engine, source: TablesSource, work: Path) -> None:
        self._engine = engine
        self._folder = Path(source.path).expanduser()
        self._work = work
        self._opened: dict[str, RawFiles] = {}
        self._num_tried = 0
        self._wanted: dict[str, set[str]] = defaultdict(set)
        for _, table in _tables(source):
            for one in (table, getattr(table, "join", None)):
                if one is not None and one.table is None:
                    self._wanted[_way_of_reading(one)] |= _columns_in_the_file(one)

    def find(self, table: RawTable, relation: str) -> tuple[str, RawFiles]:
        """The files of a table, which the engine then knows by the name that is returned.

        Raises:
            UnusableError: There are none, or they cannot be read.
        """
        if table.table is not None:
            name = ".".join(map(identifier, table.table.split(".")))
            return name, _engine_table(self._engine, table.table)
        way = _way_of_reading(table)
        if way not in self._opened:
            work = self._work / str(self._num_tried)
            self._num_tried += 1
            wanted, lists = self._wanted[way], _list_columns(table)
            self._opened[way] = open_files(table, self._folder, work, wanted=wanted, lists=lists)
        files = self._opened[way]
        self._engine.read(relation, [str(path) for path in files.paths])
        return relation, replace(files, reading=files.reading.copy())


def _way_of_reading(table: RawTable) -> str:
    """What two tables must agree in to be read together."""
    names = ("files", "format", "separator", "names", "quote", "escape", "encoding", "explode")
    told = {name: str(getattr(table, name)) for name in names}
    return json.dumps([told, sorted(_list_columns(table))])


def _columns_in_the_file(table: RawTable) -> set[str]:
    exploded = set(table.explode.names) if table.explode else set[str]()
    return table_columns(table) - exploded | ({table.explode.column} if table.explode else set())


def _list_columns(table: RawTable) -> set[str]:
    lists = {
        field.column
        for _, field in fields_of(table)
        if isinstance(field, CategoryField) and field.list and field.column is not None
    }
    if isinstance(table, JoinedTable) and table.join is not None:
        lists -= set(table.join.columns)
    return lists


def open_source(engine: Engine, source: TablesSource, work: Path) -> list[Opened]:
    """Open every table of a source.

    Raises:
        UnusableError: Files or columns are missing or of the wrong kind; all are named.
    """
    opened, problems, files = [], list[Problem](), _Files(engine, source, work)
    for number, (name, table) in enumerate(_tables(source)):
        try:
            one = _open(files, source, name, table, number)
        except UnusableError as error:
            problems.extend(error.problems)
            continue
        problems.extend(misfits(one))
        opened.append(one)
    if problems:
        raise UnusableError(*dict.fromkeys(problems))
    return opened


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


def _open(files: _Files, source: TablesSource, name: str, table: RawTable, number: int) -> Opened:
    relation, found = files.find(table, f"raw_{number}")
    columns = Columns(dict(found.kinds), source.missing, dict(found.names))
    if table.explode is not None and table.explode.column in found.kinds:
        relation = _exploded(table.explode, relation, columns, found.parts)
    keys = None
    if isinstance(table, JoinedTable) and table.join is not None:
        other, more = files.find(table.join, f"raw_{number}_join")
        known = Columns(dict(more.kinds), source.missing, dict(more.names))
        joined = join_sql(table.join, relation, columns, other, known, numbered=more.numbered)
        relation, keys = joined.relation, joined.keys
        _take_faults(found.reading, more.reading, Path(more.label).name)
    view = View(relation, number, columns, found.numbered)
    return Opened(name, found.label, table, view, found.types, found.reading, keys)


def _take_faults(ours: Reading, more: Reading, file: str) -> None:
    """What did not parse in a joined file counts as rows of the table."""
    for reason, num_rows in more.num_broken.items():
        ours.num_broken[f"{reason}, in {file}"] = num_rows
    ours.broken += [replace(row, reason=f"{row.reason}, in {file}") for row in more.broken]


def _engine_table(engine: Engine, name: str) -> RawFiles:
    relation = ".".join(map(identifier, name.split(".")))
    with unreadable("E101", name, "name a table that the engine knows, or give files"):
        schema = engine.query(f"SELECT * FROM {relation} LIMIT 0").schema
    kinds = {column.name: kind_of(column.type) for column in schema}
    types = {column.name: str(column.type) for column in schema}
    return RawFiles(name, (), kinds, types)


def _exploded(
    section: ExplodeSection, relation: str, columns: Columns, parts: tuple[str, str] | None
) -> str:
    """One row for each part of a column; a blank one gives one row of nulls, to be refused.

    The new columns, which `columns` then knows, take names that the table does not have.
    """
    between, inner = parts or (section.separator, section.inner)
    taken = {name.lower() for name in (*columns.kinds, *columns.names.values(), "file", "row")}
    part = free_name("part", taken)
    cuts = []
    whole = f"split(trim(coalesce({columns.name(section.column)}, '')), {_pattern(between)})"
    if columns.kinds[section.column] == "list":
        column = columns.name(section.column)
        whole = f"CASE WHEN cardinality({column}) > 0 THEN {column} ELSE array('') END"
    for number, name in enumerate(section.names, start=1):
        columns.kinds[name], columns.names[name] = "text", free_name(f"part_{number}", taken)
        cut = f"split_part({part}, {literal(inner)}, {number})"
        cuts.append(f"{cut} AS {columns.name(name)}")
    return (
        f"(SELECT whole.*, {', '.join(cuts)} FROM {relation} AS whole "
        f"LATERAL VIEW explode({whole}) {free_name('parts', taken)} AS {part})"
    )


def _pattern(text: str) -> str:
    return literal(re.escape(text))
