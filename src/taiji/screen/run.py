"""What a person sees while a run goes on, and the tables at its end.

On a terminal a bar moves; elsewhere (a file, a CI log) a plain line appears now and then.
"""

import time
from collections.abc import Iterable
from pathlib import Path

import pyarrow.compute as pc
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from taiji.config import Recipe
from taiji.pipeline import STAGES, Stage, upstream
from taiji.report.abtest_tables import abtest_tables
from taiji.report.cells import Cell, point_text, range_text
from taiji.report.cells import Table as MeasuredTable
from taiji.report.paper_tables import build_tables
from taiji.report.ranking_tables import ranking_tables
from taiji.runner import State, stages_of, status
from taiji.screen.estimates import KNOWN_MODEL, estimate_seconds, stage_size
from taiji.store.files import read_json, read_parquet
from taiji.store.run_directory import Manifest, RunDirectory

_LINE_EVERY_SECONDS = 15.0
_MOST_COLUMNS = 6
_WIDTH_FOR_INTERVALS = 116
_MARKS = {
    State.CURRENT: "[green]up to date[/]",
    State.STALE: "[yellow]changed[/]",
    State.PARTIAL: "[yellow]interrupted[/]",
    State.MISSING: "[dim]not run[/]",
}


class RunView:
    """Shows a run as it goes on; give it to the `Runner` as the listener."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._last_line = 0.0

    def reused(self, stage: Stage, manifest: Manifest) -> None:
        """One line: nothing to do."""
        self._console.print(f"[green]✓[/] [bold]{stage.name:<10}[/] up to date")

    def started(self, stage: Stage, *, resumed: bool) -> None:
        """Name the stage and open its bar."""
        again = " [yellow](going on where a stopped run left it)[/]" if resumed else ""
        self._console.print(f"[cyan]▶[/] [bold]{stage.name:<10}[/] {escape(stage.does)}{again}")
        self._last_line = time.monotonic()
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("  {task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("starting", total=None)

    def progress(self, done: int, total: int, what: str) -> None:
        """Move the bar, or print a line if the last one is old."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, description=escape(what))
        elif time.monotonic() - self._last_line > _LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            self._console.print(f"  {escape(what)}: {done}/{total}")

    def finished(self, stage: Stage, manifest: Manifest) -> None:
        """Close the bar and print the stage's figures."""
        self.close()
        self._console.print(f"[green]✓[/] [bold]{stage.name:<10}[/] {manifest.seconds:.0f} s")
        figures = escape(_figures(manifest))
        self._console.print(Padding(figures, (0, 0, 0, 4)), style="dim", highlight=False)

    def close(self) -> None:
        """Stop the bar, also when a stage failed."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def status_table(states: Iterable[tuple[Stage, State, Manifest | None]]) -> Table:
    """Every stage with its state, time and figures."""
    table = Table("stage", "state", "seconds", "finished", "figures", header_style="bold")
    for stage, state, manifest in states:
        if manifest is None:
            table.add_row(stage.name, _MARKS[state], "", "", "")
            continue
        seconds, figures = f"{manifest.seconds:.0f}", escape(_figures(manifest))
        table.add_row(stage.name, _MARKS[state], seconds, manifest.finished, figures)
    return table


def _figures(manifest: Manifest) -> str:
    """A stage's summary as words, such as `kept 144 · kept share 0.5`."""
    return " · ".join(
        f"{key.replace('_', ' ')} {value:,.4g}"
        if isinstance(value, float)
        else f"{key.replace('_', ' ')} {value}"
        for key, value in manifest.summary.items()
    )


def print_plan(recipe: Recipe, directory: RunDirectory, until: str, console: Console) -> None:
    """Say what a run will do, what it will reuse, and about how long it takes here."""
    wanted = {stage.name for stage in stages_of(recipe, until)}
    states = [(s, state) for s, state in status(recipe, directory) if s.name in wanted]
    todo = [stage.name for stage, state in states if state is not State.CURRENT]
    console.print(f"[bold]{recipe.name}[/] in {directory.root}/", highlight=False)
    seconds = estimate_seconds(recipe)
    table = Table("stage", "paper", "does", "size", "now", "about", header_style="bold", box=None)
    for stage, state in states:
        about = "" if state is State.CURRENT else _duration(seconds.get(stage.name))
        paper = f"stage {stage.paper}" if stage.paper else ""
        size = stage_size(stage.name, recipe)
        table.add_row(stage.name, paper, stage.does, size, _MARKS[state], about)
    console.print(table)
    if not todo:
        console.print("Nothing to do: every stage is up to date.")
    elif all(name in seconds for name in todo):
        total = sum(seconds[name] for name in todo)
        console.print(f"About {_duration(total)} on this machine, if nothing else runs on it.\n")
    else:
        console.print(f"No estimate of the time: only {KNOWN_MODEL} has been measured.\n")


def print_ending(directory: RunDirectory, until: str, recipe_path: Path, console: Console) -> None:
    """The tables, where the report is, and what to try next."""
    if until == "report":
        metrics = read_json(directory.folder("evaluate") / "metrics.json")
        for table in build_tables(metrics):
            _print_measured(table, console)
        page = (directory.folder("report") / "report.html").resolve()
        console.print(f"[bold]Report:[/] {escape(str(page))}", soft_wrap=True)
    if until == "abtest":
        for table in abtest_tables(read_json(directory.folder("abtest") / "metrics.json")):
            _print_measured(table, console)
    if until == "rank":
        for table in ranking_tables(read_json(directory.folder("rank") / "metrics.json")):
            _print_measured(table, console)
    console.print("[bold]Next:[/]", highlight=False)
    for line in _next_steps(directory, until, recipe_path):
        console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)


def _next_steps(directory: RunDirectory, until: str, recipe_path: Path) -> list[str]:
    if until != "report":
        names = [stage.name for stage in STAGES]
        always = {stage.name for stage in upstream("report")}
        after = names[names.index(until) + 1 :]
        num_optional = next(n for n, name in enumerate(after) if name in always)
        return [f"taiji {name} {recipe_path}" for name in after[: num_optional + 1]]
    examples = read_parquet(directory.folder("construct") / "examples.parquet")
    user = examples.filter(pc.equal(examples["split"], "test"))["user_id"][0].as_py()
    return [
        f"taiji show user {user} --run {directory.root}    one user, from prompt to neighbour",
        f"taiji run {recipe_path} align.weights.rule=popo_light name=light    other reward weights",
        f"taiji run {recipe_path} data.target=novel name=novel    learn from new titles only",
        f"taiji status {recipe_path}    every stage with its figures",
    ]


def _print_measured(measured: MeasuredTable, console: Console) -> None:
    """One table of the paper; wide ones are turned, and lose their intervals if they must."""
    wide = console.width >= _WIDTH_FOR_INTERVALS
    rows = [[_cell(cell, with_range=wide) for cell in row] for row in measured.rows]
    grid = [list(measured.columns), *rows]
    if len(measured.columns) > _MOST_COLUMNS:
        grid = [list(column) for column in zip(*grid, strict=True)]
    header, *body = grid
    first, *others = header
    table = Table(
        Column(escape(first), no_wrap=True),
        *(Column(escape(name), overflow="fold") for name in others),
        title=escape(measured.title),
        caption=escape(measured.caption),
        title_style="bold",
        title_justify="left",
        caption_justify="left",
        header_style="bold",
    )
    for row in body:
        table.add_row(*(escape(text) for text in row))
    console.print(table)
    console.print()


def _cell(cell: Cell, *, with_range: bool) -> str:
    if isinstance(cell, str):
        return cell
    return f"{point_text(cell)}\n{range_text(cell)}".rstrip() if with_range else point_text(cell)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
