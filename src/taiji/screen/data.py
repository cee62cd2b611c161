"""`taiji data check` as a person reads it: rows, figures, then what is wrong."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from taiji.config import Recipe
from taiji.data.engine import open_engine
from taiji.data.tables.check import Report, check
from taiji.data.tables.reach import Contents
from taiji.pipeline import STAGES
from taiji.safe_text import printable
from taiji.schema import ITEMS
from taiji.stages.parts.legible import read_titles, unreadable_titles
from taiji.store.files import read_parquet


def examine_data(recipe: Recipe) -> Report:
    """Check the data of a recipe; what is prepared on the way is thrown away."""
    with tempfile.TemporaryDirectory(prefix="taiji-check-") as folder:
        scratch, tables = Path(folder) / "scratch", Path(folder) / "tables"
        tables.mkdir()
        with open_engine(recipe.engine, scratch, memory_gib=recipe.engine_memory_gib) as engine:
            report = check(engine, recipe.data, recipe.seed, tables)
        return _with_titles(report, recipe, tables / "items.parquet") if report.usable else report


def _with_titles(report: Report, recipe: Recipe, items: Path) -> Report:
    """The report with what the recipe's models make of the titles, where that is in doubt."""
    titles = read_parquet(items, ITEMS)["title"].to_pylist() if items.is_file() else []
    found = read_titles(recipe, titles)
    if found is None:
        return report
    told = {name: round(value, 3) for name, value in asdict(found).items()}
    figures = {**report.figures, "titles": {n.replace("_", " "): v for n, v in told.items()}}
    problems = (*report.problems, *unreadable_titles(recipe, found))
    return replace(report, figures=figures, problems=problems)


def print_report(report: Report, console: Console, *, as_json: bool) -> None:
    """Print tables and problems, or JSON for a machine."""
    if as_json:
        problems = [asdict(problem) for problem in report.problems]
        tree: dict[str, Any] = {
            "counts": report.counts,
            "figures": report.figures,
            "problems": problems,
        }
        reach = None if report.contents is None else report.contents.to_json()
        tree |= {"usable": report.usable, "contents": reach}
        console.print_json(json.dumps(tree, default=_json_value))
        return
    if report.counts:
        console.print(_rows(report.counts))
    if report.figures:
        console.print(_figures(report.figures))
    for problem in sorted(report.problems, key=lambda one: (not one.fatal, one.code)):
        mark = "[red]error[/]  " if problem.fatal else "[yellow]warning[/]"
        console.print(f"{mark} {_plain(str(problem))}", highlight=False, soft_wrap=True)
    if report.contents is not None:
        _print_reach(report.contents, console)
    verdict = "[green]Usable.[/]" if report.usable else "[red]Not usable.[/] Mend the errors above."
    console.print(f"\n{verdict}")


def _print_reach(contents: Contents, console: Console) -> None:
    """How far the log carries, and how it would carry further."""
    out = contents.left_out()
    stages = [stage.name for stage in STAGES if stage.name not in out]
    asked = "" if "abtest" in out else " (abtest if asked for)"
    reached = ", ".join(name for name in stages if name != "abtest")
    console.print(f"\nThis log carries: {reached}{asked}.", highlight=False, soft_wrap=True)
    for lack in contents.lacks():
        left = f" Left out: {', '.join(lack.leaves_out)}." if lack.leaves_out else ""
        line = f"[yellow]{lack.what}[/]: {escape(lack.costs)}.{left} To have it: "
        console.print(f"{line}{escape(lack.mend)}", highlight=False, soft_wrap=True)


def _rows(counts: Mapping[str, Mapping[str, int]]) -> Table:
    table = Table("table", "rows read", "became", title="Every row read", header_style="bold")
    table.title_justify = "left"
    for name, reasons in counts.items():
        total = sum(reasons.values())
        for place, (reason, rows) in enumerate(sorted(reasons.items(), key=_kept_first)):
            first = (name, f"{total:,}") if place == 0 else ("", "")
            table.add_row(*first, _plain(f"{reason}: {rows:,} ({rows / max(total, 1):.2%})"))
    return table


def _kept_first(pair: tuple[str, int]) -> tuple[bool, str]:
    return pair[0] != "kept", pair[0]


def _figures(figures: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table("table", "figure", "value", title="What came out", header_style="bold")
    table.title_justify = "left"
    for name, several in figures.items():
        for place, (figure, value) in enumerate(several.items()):
            table.add_row(name if place == 0 else "", _plain(figure), _plain(_words(value)))
    return table


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(child)}" for key, child in value.items()) or "none"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _json_value(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _plain(text: str) -> str:
    return escape(printable(text))
