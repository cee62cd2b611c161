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
from taiji.report.cells import Cell, Measured, cell_text, figure_cell, point_text
from taiji.report.ranking_tables import shown
from taiji.safe_text import printable
from taiji.screen.run import WIDTH, duration
from taiji.screen.stage_words import Figures, by_writer, count, numbers, stage_words, writer_name
from taiji.screen.tables import print_table, stage_tables
from taiji.store.files import read_json
from taiji.store.run_directory import RunDirectory

_FEW_TESTS = 1000
_PUBLISHED = "how it compares with the paper, whose logs are not public"
_VERDICTS = {"takes more seeds": "one seed cannot tell it from chance"}


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
    for label, text in (*_seen(run), blank, *_not_shown(run), blank, *_rest(run)):
        grid.add_row(label, escape(printable(text)))
    title = f"{escape(run.root.name)}: done in {duration(run.seconds)}"
    return Panel(grid, title=title, title_align="left")


def _seen(run: Finished) -> Iterator[tuple[str, str]]:
    """What was done; form learnt, filter, weights, answers, ranking."""
    yield "done", _done(run.figures)
    form = numbers(run.figures["infer"], suffix="_ok")
    if form:
        yield "form", f"in the form asked for: {by_writer(form)}"
    yield "filter", stage_words("refine", run.figures["refine"])
    yield "weights", _weights(run)
    yield "answers", _answers(run.metrics["writers"])
    yield "ranking", _ranking(run.metrics["ranking"])


def _done(figures: Mapping[str, Figures]) -> str:
    sizes = (
        f"logs of {count(figures['construct']['users'], 'user')}",
        f"{count(figures['distill']['candidates'], 'chain')} of thought",
        f"a student tuned on {figures['sft']['examples']}, aligned on "
        f"{count(figures['align']['rollouts'], 'rollout')}",
        f"its words as features at {count(figures['features']['users_with_features'], 'moment')}",
    )
    return "; ".join(sizes)


def _weights(run: Finished) -> str:
    align = run.metrics["align"]
    if align is None:
        return "no step of alignment"
    first, last = (numbers(align[end], prefix="w_") for end in ("first", "last"))
    moves = {name: (f"{first[name]:.2f}", f"{weight:.2f}") for name, weight in last.items()}
    named = (
        f"{n} {was} to {now}" if was != now else f"{n} {now}" for n, (was, now) in moves.items()
    )
    still = " (hardly moved)" if all(was == now for was, now in moves.values()) else ""
    return f"{align['rule']}, {count(align['steps'], 'step')}: {', '.join(named)}{still}"


def _answers(writers: Mapping[str, Any]) -> str:
    """The last model beside the best trivial answer, by the category of the next basket."""
    level = {
        name: figure_cell(writer["tracks"]["any"], "category_l1", "share")
        for name, writer in writers.items()
    }
    models = [name for name, writer in writers.items() if writer["kind"] == "model"]
    trivial = [n for n in writers if n not in models and isinstance(level[n], Measured)]
    best = max(trivial, key=lambda name: _value(level[name]), default=None)
    own = "policy" if "policy" in models else next(iter(models), None)
    named = [f"{writer_name(n)} {cell_text(level[n])}" for n in (own, best) if n]
    return f"right category L1 of the next basket: {', '.join(named)}"


def _ranking(ranking: Mapping[str, Any]) -> str:
    groups = next(iter(ranking["backbones"].values()))["all"]
    lifts = [n for n in groups["contrasts"] if ranking["contrasts"][n] == "lift"]
    name = "both - base" if "both - base" in lifts else next(iter(lifts), None)
    base = figure_cell(groups["arms"]["base"], "ctcvr_auc", "fine")
    if name is None:
        return f"CTCVR AUC {cell_text(base)} without the text"
    with_text = figure_cell(groups["arms"][name.split(" - ")[0]], "ctcvr_auc", "fine")
    verdict = shown(name, groups["contrasts"][name], "ctcvr", seeds=int(ranking["seeds"]))
    points = [point_text(c) if isinstance(c, Measured) else c for c in (base, with_text)]
    said = _VERDICTS.get(verdict, verdict)
    return f"CTCVR AUC {points[0]} without the text, {points[1]} with it: {said}"


def _not_shown(run: Finished) -> Iterator[tuple[str, str]]:
    """What such a run does not show, and why."""
    reasons = []
    num_tests = run.metrics["catalogue"]["targets_any"]
    if num_tests < _FEW_TESTS:
        reasons.append(f"{num_tests} answers were tested")
    if int(run.metrics["ranking"]["seeds"]) == 1:
        reasons.append("each ranking model trained once")
    lines = [f"a lift, or its absence: {', '.join(reasons)}"] if reasons else []
    if "evidence" in str(run.figures["distill"]["teacher"]):
        lines.append("what a language model teaches: the teacher only states facts")
    lines += ["what users do: all of it is offline", _PUBLISHED]
    yield from zip(["not seen", *[""] * len(lines)], lines, strict=False)


def _rest(run: Finished) -> Iterator[tuple[str, str]]:
    root = run.root
    yield "report", str(root / "report" / "report.html")
    yield "tables", f"taiji show tables --run {root}"
    yield "one user", f"taiji show user {run.user_id} --run {root}"
    yield "try next", f"{run.again} align.weights.rule=fixed name=fixed"


def _value(cell: Cell) -> float:
    return cell.value if isinstance(cell, Measured) else float("-inf")
