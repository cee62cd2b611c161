"""How the demo ends: what text could lift in its log, what its own reached, what was planted."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Column, Table

from taiji.config import POLICY, EncoderSection, Recipe
from taiji.language.encode import SentenceEncoder
from taiji.lift.reading import GROUP, MEASURE, curves
from taiji.report.stage_words import percent
from taiji.runner import Runner
from taiji.screen.run import WIDTH, RunView, duration
from taiji.screen.selftest import run_selftest
from taiji.store.files import read_json
from taiji.store.run_directory import RunDirectory

_USERS = 600
"""Of the planted world; `taiji selftest` has more, and narrower intervals."""

_WHEN = {"window": "once", "week": "each week", "visit": "before each visit"}


def print_lift(recipe: Recipe, directory: RunDirectory, console: Console) -> None:
    """Work out the ceiling, the surplus and the planted lift; print them in a panel.

    The report is built again, now with ceiling and surplus on its first screen.

    Args:
        recipe: Of the run, with `SMALL_CEILING` of `taiji.screen.demo`.
        directory: Of a run that reached its report.
        console: To print on.
    """
    view = RunView(console)
    try:
        Runner(recipe, directory, view).run_only(("ceiling", "surplus", "report"))
    finally:
        view.close()
    began = time.monotonic()
    encode = SentenceEncoder(EncoderSection().model).encode
    with TemporaryDirectory(prefix="taiji-selftest-") as folder:
        planted = run_selftest(Path(folder), encode, users=_USERS, num_seeds=1)
    view.did("selftest", duration(time.monotonic() - began), "a lift planted and looked for")
    ceiling, surplus = (
        read_json(directory.folder(name) / "metrics.json") for name in ("ceiling", "surplus")
    )
    console.print(
        lift_panel(ceiling, surplus, planted),
        width=min(WIDTH, console.width),
        highlight=False,
    )


def lift_panel(
    ceiling: Mapping[str, Any], surplus: Mapping[str, Any], planted: Mapping[str, Any]
) -> Panel:
    """Ceiling, what the text reached, and what was planted, in few lines of 80 columns."""
    grid = Table.grid(Column(style="bold", width=8, no_wrap=True), Column(overflow="fold"))
    grid.padding = (0, 1, 0, 0)
    for label, text in (
        ("ceiling", _ceiling(ceiling)),
        ("reached", _reached(surplus)),
        ("planted", _planted(planted)),
        ("more", "docs/lift.md: does it lift my metrics, and how would I know before?"),
    ):
        grid.add_row(label, escape(text))
    return Panel(grid, title="what text could lift (click AUC)", title_align="left")


def _ceiling(metrics: Mapping[str, Any]) -> str:
    """The best of the fewest names a window, and of the most names at a visit."""
    tops = {key: curve[-1] for key, curve in curves(metrics["points"]).items()}
    least, most = min(tops, key=_size), max(tops, key=_size)
    found = ", ".join(
        f"{_gain(tops[key]['groups'][GROUP][MEASURE])} if {key[2]} "
        f"{'are' if key[2] > 1 else 'is'} named {_WHEN[key[0]]}"
        for key in (least, most)
    )
    return f"of text whose categories are always right: {found}"


def _size(key: Sequence[Any]) -> tuple[bool, int]:
    return key[0] == "visit", key[2]


def _reached(metrics: Mapping[str, Any]) -> str:
    texts = metrics["texts"]
    name = POLICY if POLICY in texts else next(iter(texts))
    found = texts[name]
    gain = _gain(found["views"]["names"]["groups"][GROUP][MEASURE])
    shown = metrics["counts"]["test_exposures"]
    named = round(found["reach"] * shown)
    return f"texts of this run: {gain}; they name {named:,} of {shown:,} things that were shown"


def _planted(found: Mapping[str, Any]) -> str:
    figures, recovered = found["figures"], found["recovered"]
    parts = {
        "match": "`match` recovers {} of it",
        "notes": "{} if the encoder must read the notes",
    }
    told = "; ".join(
        words.format(percent(recovered[name]))
        for name, words in parts.items()
        if recovered.get(name) is not None
    )
    return f"{_gain(figures['oracle'])} in a made-up world whose notes tell of needs: {told}"


def _gain(figure: Mapping[str, float | None]) -> str:
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "not known"
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"
