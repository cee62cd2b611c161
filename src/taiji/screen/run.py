"""What a person sees while a run goes on: what it will do, then one line a stage.

On a terminal a bar moves; elsewhere (a file, a CI log) a plain line appears now and then.
"""

import time
from collections.abc import Iterable

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
from taiji.pipeline import Stage
from taiji.report.alarms import stage_alarms
from taiji.report.stage_words import stage_words
from taiji.runner import State, find_contents, left_out, stages_of, status, unreachable
from taiji.safe_text import printable
from taiji.screen.estimates import KNOWN_MODEL, estimate_seconds, stage_size
from taiji.screen.needs import assumptions, needs, needs_table
from taiji.store.run_directory import Manifest, RunDirectory

WIDTH = 80  # of what a run prints: it is read in logs and on pages too

_FIRST_LINE_SECONDS, _LAST_LINE_SECONDS = 30.0, 600.0
_MARKS = {
    State.CURRENT: "[green]up to date[/]",
    State.STALE: "[yellow]changed[/]",
    State.PARTIAL: "[yellow]interrupted[/]",
    State.MISSING: "[dim]not run[/]",
    State.DAMAGED: "[red]damaged[/]",
}


class RunView:
    """Shows a run as it goes on; give it to the `Runner` as the listener."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._stage = ""
        self._last_line = 0.0
        self._pause = _FIRST_LINE_SECONDS

    def reused(self, stage: Stage, manifest: Manifest) -> None:
        """One line: nothing to do."""
        self._say(stage, "reused", manifest)

    def started(self, stage: Stage, *, resumed: bool) -> None:
        """Open the stage's bar."""
        self._stage = stage.name
        self._last_line, self._pause = time.monotonic(), _FIRST_LINE_SECONDS
        if resumed:
            self._console.print(f"  {stage.name} goes on where a stopped run left it", style="dim")
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
            self._task = self._bar.add_task(stage.name, total=None)

    def progress(self, done: int, total: int, what: str) -> None:
        """Move the bar, or print a line if the last one is old; each waits longer for the next."""
        words = f"{self._stage}: {_plain(what)}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, description=words)
        elif time.monotonic() - self._last_line > self._pause:
            self._last_line = time.monotonic()
            self._pause = min(2 * self._pause, _LAST_LINE_SECONDS)
            self._console.print(f"  {words}: {done}/{total}", style="dim", highlight=False)

    def finished(self, stage: Stage, manifest: Manifest) -> None:
        """Close the bar and say what the stage did."""
        self.close()
        self._say(stage, duration(manifest.seconds), manifest)

    def close(self) -> None:
        """Stop the bar, also when a stage failed."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _say(self, stage: Stage, when: str, manifest: Manifest) -> None:
        """The line of a stage, and what it should be looked at for."""
        self.did(stage.name, when, stage_words(stage.name, manifest.summary))
        for text in stage_alarms(stage.name, manifest.summary):
            line = Padding(f"[yellow]beware[/] {_plain(text)}", (0, 0, 0, 2))
            self._console.print(line, width=min(WIDTH, self._console.width), highlight=False)

    def did(self, what: str, when: str, words: str) -> None:
        """The line of a stage, or of whatever else was done."""
        grid = Table.grid(
            Column(width=1), Column(width=9), Column(width=6, justify="right"), Column()
        )
        grid.padding = (0, 1, 0, 0)
        grid.add_row("[green]✓[/]", f"[bold]{what}[/]", f"[dim]{when}[/]", _plain(words))
        self._console.print(grid, width=min(WIDTH, self._console.width), highlight=False)


def status_table(states: Iterable[tuple[Stage, State, Manifest | None]]) -> Table:
    """Every stage with its state, time and figures."""
    table = Table("stage", "state", "took", "finished", "figures", header_style="bold")
    for stage, state, manifest in states:
        if manifest is None:
            table.add_row(stage.name, _MARKS[state], "", "", "")
            continue
        words = _plain(stage_words(stage.name, manifest.summary))
        finished = manifest.finished[:16].replace("T", " ")
        table.add_row(stage.name, _MARKS[state], duration(manifest.seconds), finished, words)
    return table


def print_plan(
    recipe: Recipe, directory: RunDirectory, until: str, console: Console, *, whole: bool
) -> None:
    """Say what a run will do, what it will reuse, and about how long it takes here.

    Args:
        whole: Every stage with what it does, instead of a few lines.
    """
    contents = find_contents(recipe, directory)
    without = left_out(recipe, contents)
    if until in without:
        raise unreachable(until, contents)
    wanted = {stage.name for stage in stages_of(recipe, until, without)}
    states = [(s, state) for s, state in status(recipe, directory) if s.name in wanted]
    todo = [stage for stage, state in states if state is not State.CURRENT]
    seconds = estimate_seconds(recipe)
    if whole:
        console.print(_plan_table(states, recipe, seconds))
        if found := needs(recipe):
            console.print(needs_table(found))
            console.print(assumptions(), style="dim", highlight=False)
    width = min(WIDTH, console.width)
    title = f"[bold]{escape(recipe.name)}[/] in {escape(str(directory.root))}"
    if not todo:
        console.print(f"{title}: every stage is up to date", highlight=False, width=width)
        return
    reused = len(states) - len(todo)
    reuses = f", {reused} reused" if reused else ""
    stages = f"{len(todo)} stage{'s' if len(todo) > 1 else ''} to run{reuses}"
    about = _about(todo, seconds)
    console.print(f"{title}: {stages}. {about}", highlight=False, width=width)
    for lack in contents.lacks():
        left = f" Left out: {', '.join(lack.leaves_out)}." if lack.leaves_out else ""
        line = f"[yellow]{lack.what}[/]: {escape(lack.costs)}.{left} To have it: "
        text = Padding(f"{line}{escape(lack.mend)}", (0, 0, 0, 2))
        console.print(text, highlight=False, width=width)
    if not whole:
        sized = " · ".join(f"{s.name} {stage_size(s.name, recipe)}".rstrip() for s in todo)
        console.print(Padding(sized, (0, 0, 1, 2)), style="dim", highlight=False, width=width)


def _plan_table(
    states: list[tuple[Stage, State]], recipe: Recipe, seconds: dict[str, float]
) -> Table:
    table = Table("stage", "does", "size", "now", "about", header_style="bold", box=None)
    for stage, state in states:
        known = state is not State.CURRENT and stage.name in seconds
        about = duration(seconds[stage.name]) if known else ""
        size = stage_size(stage.name, recipe)
        table.add_row(stage.name, stage.does, size, _MARKS[state], about)
    return table


def _about(todo: list[Stage], seconds: dict[str, float]) -> str:
    if all(stage.name in seconds for stage in todo):
        total = sum(seconds[stage.name] for stage in todo)
        return f"About {duration(total)} here, if nothing else runs."
    return f"No estimate of the time: only {KNOWN_MODEL} has been measured."


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever a person would say."""
    if seconds < 180:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _plain(text: str) -> str:
    return escape(printable(text))
