"""What a stage that is at work has so far: its curves, and the newest rollouts.

It reads parts and metrics of unfinished work and writes nothing, sets nothing aside and takes no
lock, so that looking at a run cannot disturb it.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from taiji.report.explorer import rollout_rows
from taiji.report.reward_charts import reward_names
from taiji.report.run_files import ReportData
from taiji.store.run_directory import UNFINISHED
from taiji.ui.runs import running_stage

_NEWEST = 12  # rollouts
_POINTS = 400  # of a curve

Row = Mapping[str, Any]


def live_state(root: Path, data: ReportData) -> dict[str, Any]:
    """What runs now; `stage` is None where nothing does."""
    stage = running_stage(root)
    if stage is None:
        return {"stage": None}
    work = root / f"{stage}.tmp" / UNFINISHED
    steps = _steps(work)
    total = {"align": data.recipe.align.steps}.get(stage)
    return {
        "stage": stage,
        "words": _words(steps, total),
        "curves": {title: _thinned(series) for title, series in _curves(stage, steps).items()},
        "rollouts": _rollouts(work, data),
    }


def _steps(work: Path) -> list[Row]:
    """Rows of the newest metrics.jsonl; a line that is being written is left out."""
    files = sorted(work.glob("*/metrics.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    if not files:
        return []
    rows = []
    for line in files[-1].read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _words(steps: Sequence[Row], total: int | None) -> str:
    if not steps:
        return "no step has ended yet"
    return f"step {int(steps[-1]['step'])}{'' if total is None else f' of {total}'}"


def _curves(stage: str, steps: Sequence[Row]) -> dict[str, dict[str, list[list[float]]]]:
    if stage == "sft":
        return {"Loss (Eq. 2)": _series(steps, {"loss": "loss"})}
    names = reward_names(steps)
    return {
        "Reward weights": _series(steps, {f"w_{name}": name for name in names}),
        "Mean rewards": _series(steps, {f"rewards/{name}/mean": name for name in names}),
        "Alignment I": _series(steps, {f"I_{name}": name for name in names}),
    }


def _series(steps: Sequence[Row], columns: Mapping[str, str]) -> dict[str, list[list[float]]]:
    found = {
        name: [[row["step"], row[key]] for row in steps if row.get(key) is not None]
        for key, name in columns.items()
    }
    return {name: points for name, points in found.items() if points}


def _thinned(series: Mapping[str, list[list[float]]]) -> dict[str, list[list[float]]]:
    """At most so many points of each curve, its last among them."""
    return {
        name: [*points[:-1:stride], points[-1]]
        for name, points in series.items()
        for stride in [max(1, len(points) // _POINTS)]
    }


def _rollouts(work: Path, data: ReportData) -> list[list[Any]]:
    """Step, user, answer and rewards of the newest rollouts, the newest first."""
    parts = sorted(work.glob("rollouts.*/*.part"))[-3:]
    tables = [table for path in reversed(parts) for table in _part(path)]
    if not tables:
        return []
    newest = pa.concat_tables(tables).slice(0, _NEWEST)
    rows = rollout_rows(newest, data.examples, data.items)
    return [
        [step, user, answer, semantic, preference]
        for step, user, answer, _, semantic, preference, *_ in rows
    ]


def _part(path: Path) -> Iterator[pa.Table]:
    """The table of one part: a line with its digest, then Parquet; the stage itself checks it."""
    try:
        content = path.read_bytes().partition(b"\n")[2]
        yield pq.read_table(io.BytesIO(content))
    except (OSError, pa.ArrowException):
        return  # it is gone or being written
