"""Cells and tables, whatever renders them: a figure with its interval, or a word."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

NOT_RUN = "not run"
NOT_APPLICABLE = "–"

Unit = Literal["share", "rate", "number", "fine"]
Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """A figure with its 95 % interval and its deviation between seeds, where there are such."""

    value: float
    low: float | None = None
    high: float | None = None
    unit: Unit = "share"
    spread: float | None = None


Cell = Measured | str


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first cell of a row is its name."""

    key: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def condensed(table: Table) -> Table:
    """The same table without what says nothing.

    Columns that are empty in every row go; rows of things that were not run become a sentence
    of the caption.
    """
    rows = [row for row in table.rows if NOT_RUN not in row[1:] or _measured(row)]
    missing = [str(row[0]) for row in table.rows if row not in rows]
    kept = [0, *(n for n in range(1, len(table.columns)) if any(_says(row[n]) for row in rows))]
    sentences = [table.caption, f"Not run: {'; '.join(missing)}." if missing else ""]
    return replace(
        table,
        caption=" ".join(sentence for sentence in sentences if sentence),
        columns=tuple(table.columns[n] for n in kept),
        rows=tuple(tuple(row[n] for n in kept) for row in rows),
    )


def _measured(row: tuple[Cell, ...]) -> bool:
    return any(_says(cell) for cell in row[1:])


def _says(cell: Cell) -> bool:
    return cell not in (NOT_APPLICABLE, NOT_RUN)


def cell_text(cell: Cell) -> str:
    """One cell as plain text: shares in per cent, other numbers with three digits."""
    if isinstance(cell, str):
        return cell
    return f"{point_text(cell)} {range_text(cell)}".rstrip()


def point_text(cell: Measured) -> str:
    """The figure alone."""
    return _number(cell.value, cell.unit)


def range_text(cell: Measured) -> str:
    """Its interval in brackets, and the deviation between seeds; empty where there is none."""
    if cell.low is None or cell.high is None:
        return ""
    low, high = (_number(bound, cell.unit).removesuffix(" %") for bound in (cell.low, cell.high))
    spread = "" if cell.spread is None else f" ±{_number(cell.spread, cell.unit)}"
    return f"[{low}, {high}]{spread}"


def _number(value: float, unit: Unit) -> str:
    match unit:
        case "share":
            return f"{100 * value:.1f} %"
        case "rate":
            return f"{100 * value:.2f} %"
        case "number":
            return f"{value:.4f}" if 0 < abs(value) < 1e-3 else f"{value:#.3g}"
        case "fine":
            return f"{value:.4f}"


def figure_cell(figures: Metrics, key: str, unit: Unit) -> Cell:
    """A figure by name; a dash where there is none, or where it is not defined."""
    figure = figures.get(key)
    if figure is None or figure["value"] is None:
        return NOT_APPLICABLE
    spread = figure.get("spread")
    return Measured(float(figure["value"]), figure["low"], figure["high"], unit, spread)
