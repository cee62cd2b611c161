"""What stands at the end of a run: what was seen, what that cannot show, where the rest is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Column, Table

from taiji.pipeline import STAGES, upstream
from taiji.report.alarms import alarms
from taiji.report.outcome import not_seen, seen
from taiji.report.stage_words import Figures
from taiji.safe_text import printable
from taiji.screen.run import WIDTH, duration
from taiji.screen.tables import print_table, stage_tables
from taiji.store.files import read_json
from taiji.store.run_directory import RunDirectory


@dataclass(frozen=True)
class Finished:
    """A run that reached its report.

    Attributes:
        again: The command that made it.
        seconds: Of all its stages together.
        figures: Summary of each stage.
        metrics: `metrics.json` of `evaluate`.
        user_id: One user who was tested.
    """

    root: Path
    again: str
    seconds: float
    figures: Mapping[str, Figures]
    metrics: Mapping[str, Any]
    user_id: str


def print_ending(directory: RunDirectory, until: str, again: str, console: Console) -> None:
    """A panel at the end of a run; before that, the tables of the stage and the next command."""
    if until == "report":
        panel = ending_panel(read_finished(directory, again))
        console.print(panel, width=min(WIDTH, console.width), highlight=False)
        return
    for table in stage_tables(directory, until):
        print_table(table, console)
    names = [stage.name for stage in STAGES]
    always = {stage.name for stage in upstream("report")}
    after = names[names.index(until) + 1 :]
    num_optional = next(n for n, name in enumerate(after) if name in always)
    for name in after[: num_optional + 1]:
        line = f"[bold]Next:[/] {escape(again)} --until {name}"
        console.print(line, highlight=False, soft_wrap=True)


def read_finished(directory: RunDirectory, again: str) -> Finished:
    """What the panel tells of a run, from its manifests and metrics."""
    found = {stage.name: directory.manifest(stage.name) for stage in upstream("report")}
    manifests = {name: manifest for name, manifest in found.items() if manifest is not None}
    tested = pq.read_table(
        directory.folder("construct") / "examples.parquet",
        columns=["user_id"],
        filters=[("split", "==", "test")],
    )
    return Finished(
        root=directory.root,
        again=again,
        seconds=sum(manifest.seconds for manifest in manifests.values()),
        figures={name: manifest.summary for name, manifest in manifests.items()},
        metrics=read_json(directory.folder("evaluate") / "metrics.json"),
        user_id=tested["user_id"][0].as_py(),
    )


def ending_panel(run: Finished) -> Panel:
    """At most 25 lines of 80 columns."""
    grid = Table.grid(Column(style="bold", width=8, no_wrap=True), Column(overflow="fold"))
    grid.padding = (0, 1, 0, 0)
    blank = ("", "")
    limits = [("", text) for text in not_seen(run.figures, run.metrics)]
    limits[0] = ("not seen", limits[0][1])
    warned = [("beware", text) for text in alarms(run.figures, run.metrics)]
    said = [*seen(run.figures, run.metrics), *warned]
    for label, text in (*said, blank, *limits, blank, *_rest(run)):
        grid.add_row(label, escape(printable(text)))
    title = f"{escape(run.root.name)}: done in {duration(run.seconds)}"
    return Panel(grid, title=title, title_align="left")


def _rest(run: Finished) -> Iterator[tuple[str, str]]:
    root = run.root
    yield "report", str(root / "report" / "report.html")
    yield "tables", f"taiji show tables --run {root}"
    yield "one user", f"taiji show user {run.user_id} --run {root}"
    yield "try next", f"{run.again} align.weights.rule=fixed name=fixed"
