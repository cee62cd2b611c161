"""The tables of a run as a terminal shows them."""

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from taiji.errors import MissingArtifactError
from taiji.report.abtest_tables import abtest_tables
from taiji.report.cells import Cell, condensed, point_text, range_text
from taiji.report.cells import Table as MeasuredTable
from taiji.report.lift_tables import ceiling_tables, surplus_tables
from taiji.report.paper_tables import build_tables
from taiji.report.ranking_tables import ranking_tables
from taiji.safe_text import printable
from taiji.store.files import read_json
from taiji.store.run_directory import RunDirectory

_TABLES = {
    "abtest": abtest_tables,
    "ceiling": ceiling_tables,
    "surplus": surplus_tables,
}
_MOST_COLUMNS = 6
_WIDTH_FOR_INTERVALS = 116


def print_tables(directory: RunDirectory, console: Console) -> None:
    """All tables of what the run has measured so far.

    Raises:
        MissingArtifactError: Neither `evaluate` nor `rank` has finished.
    """
    if directory.manifest("evaluate") is not None:
        tables = build_tables(read_json(directory.folder("evaluate") / "metrics.json"))
    elif directory.manifest("rank") is not None:
        tables = (*stage_tables(directory, "rank"), *stage_tables(directory, "abtest"))
    else:
        raise MissingArtifactError(
            f"{directory.root}: no tables yet: they come from the stages `rank` and `evaluate`"
        )
    for table in tables:
        print_table(table, console)


def stage_tables(directory: RunDirectory, stage: str) -> tuple[MeasuredTable, ...]:
    """The tables of one stage alone; none where it has none, or before it has run."""
    if stage not in ("rank", *_TABLES) or directory.manifest(stage) is None:
        return ()
    metrics = read_json(directory.folder(stage) / "metrics.json")
    if stage != "rank":
        return _TABLES[stage](metrics)
    path = directory.folder("construct") / "contents.json"
    return ranking_tables(metrics, read_json(path) if path.is_file() else None)


def print_table(measured: MeasuredTable, console: Console) -> None:
    """One table of the paper; wide ones are turned, and lose their intervals if they must."""
    measured = condensed(measured)
    wide = console.width >= _WIDTH_FOR_INTERVALS
    rows = [[_cell(cell, with_range=wide) for cell in row] for row in measured.rows]
    grid = [list(measured.columns), *rows]
    if len(measured.columns) > _MOST_COLUMNS:
        grid = [list(column) for column in zip(*grid, strict=True)]
    header, *body = grid
    first, *others = header
    table = Table(
        Column(_plain(first), no_wrap=len(header) <= _MOST_COLUMNS),
        *(Column(_plain(name), overflow="fold") for name in others),
        title=_plain(measured.title),
        caption=_plain(measured.caption),
        title_style="bold",
        title_justify="left",
        caption_justify="left",
        header_style="bold",
    )
    for row in body:
        table.add_row(*map(_plain, row))
    console.print(table)
    console.print()


def _cell(cell: Cell, *, with_range: bool) -> str:
    if isinstance(cell, str):
        return cell
    return f"{point_text(cell)}\n{range_text(cell)}".rstrip() if with_range else point_text(cell)


def _plain(text: str) -> str:
    return escape(printable(text))
