"""Columns that are kept in another file, joined to a table by a key before its rows are judged."""

from collections.abc import Iterator
from dataclasses import dataclass

from taiji.config.mapping import JoinTable
from taiji.data.problems import Problem, UnusableError
from taiji.data.tables.absent import no_such_column
from taiji.data.tables.expressions import Columns, identifier
from taiji.data.tables.text_files import FILE, ROW


@dataclass(frozen=True)
class Joined:
    """What a table became.

    Attributes:
        relation: What stands after FROM.
        keys: The ids that the table looks up, and those of the file, as SELECTs of `user_id`.
    """

    relation: str
    keys: tuple[str, str]


def join_sql(
    join: JoinTable,
    relation: str,
    columns: Columns,
    other: str,
    known: Columns,
    *,
    numbered: bool,
) -> Joined:
    """Every row of `relation` with the columns of the joined file; null where it has no such key.

    Args:
        join: Which columns, by which key.
        relation: The table.
        columns: How to read it; the new columns are added here.
        other: The joined file.
        known: How to read that.
        numbered: Its rows have numbers; otherwise they are in the order of their words.

    Raises:
        UnusableError: The file lacks a column.
    """
    if problems := list(_absent(join, columns, known)):
        raise UnusableError(*problems)
    taken = {name.lower() for name in (*columns.kinds, *columns.names.values(), "file", "row")}
    words = [known.word(name) for name in join.columns.values()]
    names = [free_name(f"joined_{n}", taken) for n in range(len(words))]
    values = ", ".join(f"{word} AS v{n}" for n, word in enumerate(words))
    order = f"{identifier(FILE)}, {identifier(ROW)}" if numbered else ", ".join(words)
    rows = (
        f"SELECT join_key, {', '.join(f'v{n}' for n in range(len(words)))}, place FROM ("
        f"SELECT {known.key(join.key)} AS join_key, {values}, "
        f"row_number() OVER (PARTITION BY {known.key(join.key)} ORDER BY {order}) AS place "
        f"FROM {other}) WHERE join_key IS NOT NULL"
    )
    if join.several == "first":
        picked = f"SELECT * FROM ({rows}) WHERE place = 1"
    else:
        lists = ", ".join(f"{_listed(n)} AS v{n}" for n in range(len(words)))
        picked = f"SELECT join_key, {lists} FROM ({rows}) GROUP BY join_key"
    of = columns.key(join.of)
    for name, free in zip(join.columns, names, strict=True):
        columns.kinds[name] = "text" if join.several == "first" else "list"
        columns.names[name] = free
    told = ", ".join(f"more.v{n} AS {identifier(free)}" for n, free in enumerate(names))
    whole = (
        f"(SELECT whole.*, {told} FROM (SELECT *, {of} AS join_of FROM {relation}) AS whole "
        f"LEFT JOIN ({picked}) AS more ON more.join_key = whole.join_of)"
    )
    looked_up = f"SELECT DISTINCT {of} AS user_id FROM {relation} WHERE {of} IS NOT NULL"
    return Joined(whole, (looked_up, f"SELECT DISTINCT join_key AS user_id FROM ({rows})"))


def _listed(number: int) -> str:
    """The words of a column in the order of the rows, without the empty ones."""
    pairs = f"collect_list(named_struct('place', place, 'v', v{number}))"
    return f"filter(transform(array_sort({pairs}), one -> one.v), one -> one IS NOT NULL)"


def _absent(join: JoinTable, columns: Columns, known: Columns) -> Iterator[Problem]:
    for name, column in join.columns.items():
        if column not in known.kinds:
            mend = no_such_column(column, known.kinds)
            yield Problem("E101", f"join.columns.{name}", f"no column {column}", mend, fatal=True)
        if name in columns.kinds:
            what = f"the table itself has a column {name}"
            mend = "take another name on the left"
            yield Problem("E101", f"join.columns.{name}", what, mend, fatal=True)
    for column in join.key.columns:
        if column not in known.kinds:
            mend = no_such_column(column, known.kinds)
            yield Problem("E101", "join.key", f"no column {column}", mend, fatal=True)


def free_name(name: str, taken: set[str]) -> str:
    """A name that the table does not have."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name
