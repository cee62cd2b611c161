"""Pictures of several runs: what each came to, which dominate, how weights and rewards moved."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import markupsafe
import pyarrow as pa
import pyarrow.compute as pc

from taiji.report.cells import Measured, Table
from taiji.report.charts import Rows, Spec, draw, labelled_intervals_chart, lines_chart
from taiji.report.run_files import ReportData

Runs = Mapping[str, ReportData]
"""What each run has, by its name, in the order of the tables."""

_FRONT = "var(--kept)"
_LAST = 3  # the last third of the steps stands for what alignment came to
_NEAR = 0.03  # of an axis: dots so near to one another share a label


def comparison_charts(
    runs: Runs, tables: Sequence[Table], column: str, key: str
) -> Mapping[str, markupsafe.Markup]:
    """What a page shows of several runs before their tables, by the name of the chart.

    Args:
        runs: Whose weights and rewards are drawn.
        tables: Whose rows are drawn as intervals; a name that comes again is drawn once.
        column: Which of their columns.
        key: What makes the names of these charts unique in the page.
    """
    drawn = {
        "outcome": outcome_chart(tables, column, f"{key}outcome"),
        "front": front_chart(front(runs), f"{key}front"),
        "weights": _steps_chart(runs, "w_semantic", "weight of the semantic reward", key),
        "semantic": _steps_chart(runs, "rewards/semantic/mean", "mean semantic reward", key),
    }
    return {name: markupsafe.Markup(svg) for name, svg in drawn.items() if svg}


def outcome_chart(tables: Sequence[Table], column: str, name: str) -> str:
    """One column of tables as dots with their intervals; empty where nothing was measured."""
    found = {row["writer"]: row for table in tables for row in _measured(table, column)}
    rows = list(found.values())
    return labelled_intervals_chart(rows, column, name, ".0%") if rows else ""


def _measured(table: Table, column: str) -> Iterator[dict[str, Any]]:
    if column not in table.columns:
        return
    place = table.columns.index(column)
    for row in table.rows:
        cell = row[place]
        if isinstance(cell, Measured):
            yield {
                "writer": str(row[0]),
                **{k: getattr(cell, k) for k in ("value", "low", "high")},
            }


def front(runs: Runs) -> list[dict[str, Any]]:
    """Mean rewards of each run over the last third of its steps, and whether another dominates it.

    A run is on the front if no other has more of one reward and not less of the other.
    """
    points = []
    for name, data in runs.items():
        rollouts = data.rollouts
        if rollouts is None or rollouts["preference"].null_count or not rollouts.num_rows:
            continue
        last = _last_third(rollouts)
        means = [float(pc.mean(last[key]).as_py()) for key in ("semantic", "preference")]
        points.append({"run": name, "semantic": means[0], "preference": means[1]})
    for point in points:
        point["front"] = not any(_dominates(other, point) for other in points)
    return points


def _dominates(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    pairs = [(one[key], other[key]) for key in ("semantic", "preference")]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _last_third(rollouts: pa.Table) -> pa.Table:
    last = int(pc.max(rollouts["step"]).as_py())
    return rollouts.filter(pc.greater(rollouts["step"], last - max(1, last // _LAST)))


def front_chart(points: Rows, name: str) -> str:
    """Runs by their two rewards; a line joins those that no other dominates; empty for one.

    `points` hold run, semantic, preference, front.
    """
    if len(points) < 2:
        return ""
    x = {"field": "semantic", "type": "quantitative", "title": "mean semantic reward (Eq. 3)"}
    y = {"field": "preference", "type": "quantitative", "title": "mean preference reward (Eq. 4)"}
    scale = {"scale": {"zero": False, "nice": True, "padding": 34}}
    place = {"x": {**x, **scale}, "y": {**y, **scale}}
    colour = {"condition": {"test": "datum.front", "value": _FRONT}, "value": "var(--muted)"}
    line = {
        "transform": [{"filter": "datum.front"}],
        "mark": {"type": "line", "color": _FRONT, "strokeDash": [4, 3]},
        "encoding": {**place, "order": {"field": "semantic"}},
    }
    dots = {
        "mark": {"type": "point", "filled": True, "size": 70},
        "encoding": {**place, "color": colour},
    }
    text: Spec = {"type": "text", "dy": -10, "fontSize": 11, "color": "var(--ink)"}
    names = {
        "data": {"values": _labels(points)},
        "mark": text,
        "encoding": {**place, "text": {"field": "run"}},
    }
    return draw(
        {"data": {"values": list(points)}, "layer": [line, dots, names]}, name, "runs by rewards"
    )


def _labels(points: Rows) -> list[dict[str, Any]]:
    """Names of the dots; those that nearly cover one another share one."""
    keys = ("semantic", "preference")
    spans = {key: _span([point[key] for point in points]) for key in keys}
    labels: list[dict[str, Any]] = []
    for point in points:
        near = (n for n in labels if all(abs(n[k] - point[k]) <= _NEAR * spans[k] for k in keys))
        known = next(near, None)
        if known is None:
            labels.append({**point})
        else:
            known["run"] += f", {point['run']}"
    return labels


def _span(values: Sequence[float]) -> float:
    return max(values) - min(values)


def _steps_chart(runs: Runs, column: str, title: str, key: str) -> str:
    rows: list[dict[str, Any]] = []
    for name, data in runs.items():
        rows += [{"step": r["step"], name: r[column]} for r in data.align_steps if column in r]
    names = {name: name for name in runs if any(name in row for row in rows)}
    kind = f"{key}{column.replace('/', '-')}"
    return lines_chart(rows, names, title, kind) if names else ""
