"""Charts as inline SVG: rendered here, so that the page needs no script and no network.

Colours are CSS variables of the page, so a chart follows light and dark.
"""

import html
import math
import re
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pyarrow as pa
import vl_convert

from taiji.arrays import Array

Rows = Sequence[Mapping[str, Any]]
Spec = dict[str, Any]

_WIDTH, _HEIGHT, _WIDE = 340, 230, 660
_SEMANTIC, _PREFERENCE = "var(--semantic)", "var(--preference)"
_OTHERS = ("var(--kept)", "var(--rejected)", "var(--muted)")
_FRONT, _DOT = "var(--kept)", "var(--accent)"
_LEGEND_LETTERS = 36  # of one line
_SCATTER_POINTS = 600  # more would only cover each other
_BINS = 40

_CONFIG: Spec = {
    "autosize": {"type": "fit", "contains": "padding"},
    "background": None,
    "font": "system-ui, sans-serif",
    # Room for a reader's font that is wider than the one that the renderer measures with.
    "padding": {"left": 12, "right": 8, "top": 2, "bottom": 2},
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titlePadding": 9,
        "tickCount": 5,
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
    },
    "legend": {
        "labelColor": "var(--ink)",
        "title": None,
        "orient": "top",
        "labelFontSize": 11,
        "symbolStrokeWidth": 2,
    },
}


def perplexity_histogram(perplexities: Array, threshold: float | None) -> str:
    """Perplexities on a log axis, kept and rejected in two colours, with R as a line.

    Counted here and not by the renderer, so that a million chains draw as fast as ten; R is the
    edge of a bin, so that no bar holds chains of both sides.
    """
    positive = perplexities[perplexities > 0]
    x: Spec = {"type": "quantitative", "title": "perplexity of the true answer"}
    bars: Spec = {
        "mark": {"type": "rect"},
        "encoding": {
            "x": {**x, "field": "from", "axis": _round_ticks(), "scale": {"zero": False}},
            "x2": {"field": "to"},
            "y": {"field": "chains", "type": "quantitative", "title": "chains"},
            "y2": {"datum": 0},
            "color": {
                "field": "side",
                "type": "nominal",
                "scale": {
                    "domain": ["below R", "at or above R"],
                    "range": ["var(--kept)", "var(--rejected)"],
                },
            },
        },
    }
    layers = [bars] if threshold is None else [bars, *_threshold(threshold)]
    values = _bins(positive, threshold)
    return _svg({"data": {"values": values}, "layer": layers}, "ppl", "perplexities of chains")


def reasons_chart(counts: Mapping[str, int]) -> str:
    """How many chains each rule kept or rejected."""
    values = [{"reason": reason, "chains": chains} for reason, chains in counts.items()]
    y = {"field": "reason", "type": "nominal", "sort": "-x", "title": None}
    x = {"field": "chains", "type": "quantitative", "title": "chains"}
    bar = {"mark": {"type": "bar", "color": "var(--accent)"}, "encoding": {"x": x, "y": y}}
    text = {
        "mark": {"type": "text", "align": "left", "dx": 4, "fontSize": 11, "color": "var(--ink)"},
        "encoding": {"x": x, "y": y, "text": {"field": "chains", "format": ","}},
    }
    spec: Spec = {"data": {"values": values}, "layer": [bar, text]}
    return _svg({**spec, "height": 46 + 30 * len(values)}, "reasons", "chains by verdict")


def lines_chart(
    steps: Rows, columns: Mapping[str, str], title: str, name: str, least: float = 0.0
) -> str:
    """One line per column over training steps; the paper's rewards have colours of their own.

    What moves by less than `least` looks like it: the axis is never shorter.
    """
    values = [
        {"step": row["step"], "value": row[column], "series": series}
        for row in steps
        for column, series in columns.items()
        if row.get(column) is not None
    ]
    scale: Spec = {"zero": False, "nice": True}
    found = [value["value"] for value in values]
    if found and max(found) - min(found) < least:
        middle = (max(found) + min(found)) / 2
        scale = {"domain": [middle - least / 2, middle + least / 2]}
    encoding = {
        "x": {
            "field": "step",
            "type": "quantitative",
            "title": "step",
            "axis": {"tickMinStep": 1, "tickCount": min(5, max(1, len(steps) - 1)), "format": "d"},
        },
        "y": {
            "field": "value",
            "type": "quantitative",
            "title": title,
            "scale": scale,
        },
        "color": _series_colour(list(columns.values())),
    }
    point = len(steps) <= 40
    mark = {"type": "line", "strokeWidth": 2, "point": {"size": 18} if point else False}
    return _svg(
        {"data": {"values": values}, "mark": mark, "encoding": encoding}, name, f"{title} by step"
    )


def intervals_chart(rows: Rows, title: str, name: str) -> str:
    """A dot with its 95 % interval for each writer; `rows` hold writer, value, low, high."""
    return _svg(_intervals(rows, title, ".0%"), name, f"{title}, by writer")


def gains_chart(rows: Rows, title: str, name: str) -> str:
    """The same for gains: wider, with a line at no gain at all."""
    spec = _intervals(rows, title, "+.4~f")
    zero = {
        "data": {"values": [{}]},
        "mark": {"type": "rule", "color": "var(--muted)", "strokeDash": [4, 3]},
        "encoding": {"x": {"datum": 0, "type": "quantitative"}},
    }
    return _svg({**spec, "layer": [zero, *spec["layer"]], "width": _WIDE}, name, title)


def _intervals(rows: Rows, title: str, digits: str) -> Spec:
    y: Spec = {"field": "writer", "type": "nominal", "sort": None, "title": None}
    y["axis"] = {"labelLimit": 260, "labelColor": "var(--ink)"}
    x = {"type": "quantitative", "title": title, "axis": {"format": digits}}
    rule = {
        "mark": {"type": "rule", "color": "var(--accent)", "strokeWidth": 2},
        "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y},
    }
    dot = {
        "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1, "color": _DOT},
        "encoding": {"x": {**x, "field": "value"}, "y": y},
    }
    spec: Spec = {"data": {"values": list(rows)}, "layer": [rule, dot]}
    padding = {"left": 26, "right": 10, "top": 2, "bottom": 2}
    return {**spec, "height": 46 + 26 * len(rows), "padding": padding}


def reward_scatter(rollouts: pa.Table) -> str:
    """Semantic against preference reward of rollouts, first and last third in two colours."""
    every = max(1, -(-rollouts.num_rows // _SCATTER_POINTS))
    rows = rollouts.select(["step", "semantic", "preference"])
    shown = rows.take(pa.array(np.arange(0, rows.num_rows, every))).to_pylist()
    steps = rollouts["step"].to_numpy()
    first, last = (int(steps.min()), int(steps.max())) if steps.size else (0, 0)
    thirds = ("first third", "middle third", "last third")
    values = [
        {
            "semantic": row["semantic"],
            "preference": row["preference"],
            "when": thirds[min(2, 3 * (row["step"] - first) // max(1, last - first + 1))],
        }
        for row in shown
    ]
    encoding = {
        "x": {"field": "semantic", "type": "quantitative", "title": "semantic reward (Eq. 3)"},
        "y": {"field": "preference", "type": "quantitative", "title": "preference reward (Eq. 4)"},
        "color": {
            "field": "when",
            "type": "nominal",
            "scale": {
                "domain": list(thirds),
                "range": ["var(--faint)", "var(--semantic)", "var(--preference)"],
            },
        },
    }
    mark = {"type": "point", "filled": True, "size": 22, "opacity": 0.65, "aria": False}
    return _svg(
        {"data": {"values": values}, "mark": mark, "encoding": encoding},
        "scatter",
        "rewards of rollouts",
    )


def front_chart(points: Rows) -> str:
    """Runs by their two rewards; a line joins those that no other dominates.

    `points` hold run, semantic, preference, front.
    """
    x = {"field": "semantic", "type": "quantitative", "title": "mean semantic reward (Eq. 3)"}
    y = {"field": "preference", "type": "quantitative", "title": "mean preference reward (Eq. 4)"}
    scale = {"scale": {"zero": False, "nice": True, "padding": 12}}
    place = {"x": {**x, **scale}, "y": {**y, **scale}}
    best = [{"filter": "datum.front"}]
    colour = {"condition": {"test": "datum.front", "value": _FRONT}, "value": "var(--muted)"}
    line = {
        "transform": best,
        "mark": {"type": "line", "color": _FRONT, "strokeDash": [4, 3]},
        "encoding": {**place, "order": {"field": "semantic"}},
    }
    dots = {
        "mark": {"type": "point", "filled": True, "size": 70},
        "encoding": {**place, "color": colour},
    }
    names = {
        "mark": {"type": "text", "dy": -10, "fontSize": 11, "color": "var(--ink)"},
        "encoding": {**place, "text": {"field": "run"}},
    }
    return _svg(
        {"data": {"values": list(points)}, "layer": [line, dots, names]}, "front", "runs by rewards"
    )


def _bins(positive: Array, threshold: float | None) -> list[Spec]:
    """Counts in bins of equal width in log10, with R as an edge."""
    if positive.size == 0:
        return []
    # Vega-Lite bins a log scale unevenly, so the logarithm is taken here and labelled back.
    logs = np.log10(positive)
    width = max(float(logs.max() - logs.min()) / _BINS, 1e-3)
    middle = math.log10(threshold) if threshold else float(logs.min())
    first = math.floor((float(logs.min()) - middle) / width)
    last = math.floor((float(logs.max()) - middle) / width) + 1
    edges = middle + width * np.arange(first, last + 1)
    # Sides by the perplexity itself: a logarithm may round a chain onto the edge.
    below = positive < threshold if threshold else np.zeros(positive.size, dtype=bool)
    rows: list[Spec] = []
    for side, chosen in (("below R", below), ("at or above R", ~below)):
        counts, _ = np.histogram(logs[chosen], edges)
        rows += [
            {"from": float(a), "to": float(b), "chains": int(count), "side": side}
            for a, b, count in zip(edges[:-1], edges[1:], counts, strict=True)
            if count
        ]
    return rows


def _round_ticks() -> Spec:
    ticks = [m * 10.0**power for power in range(5) for m in (1, 2, 5)]
    return {
        "labelExpr": "format(round(pow(10, datum.value)), ',')",
        "values": [math.log10(tick) for tick in ticks],
    }


def _threshold(threshold: float) -> list[Spec]:
    x = {"datum": math.log10(threshold), "type": "quantitative"}
    rule = {"type": "rule", "color": "var(--ink)", "strokeDash": [4, 3], "strokeWidth": 1.5}
    text = {
        "type": "text",
        "text": f"R = {threshold:.4g}",
        "align": "left",
        "dx": 5,
        "y": -4,
        "fontSize": 12,
        "color": "var(--ink)",
    }
    once: Spec = {"values": [{}]}  # else the marks are drawn once for every bar's rows
    return [{"data": once, "mark": mark, "encoding": {"x": x}} for mark in (rule, text)]


def _series_colour(series: list[str]) -> Spec:
    fixed = {"semantic": _SEMANTIC, "preference": _PREFERENCE}
    others = cycle(_OTHERS if fixed.keys() & set(series) else (_SEMANTIC, _PREFERENCE, *_OTHERS))
    colours = [fixed.get(name) or next(others) for name in series]
    fits = len("".join(series)) <= _LEGEND_LETTERS
    return {
        "field": "series",
        "type": "nominal",
        "scale": {"domain": series, "range": colours},
        "legend": None if len(series) == 1 else {"columns": 3 if fits else 2},
    }


def _svg(spec: Spec, name: str, label: str) -> str:
    """Render, with ids that are unique in the page and no namespace that looks like a link.

    A chart is one picture with one name to whoever cannot see it; its figures stand in tables.
    """
    whole = {"width": _WIDTH, "height": _HEIGHT, "config": _CONFIG, **spec}
    svg = vl_convert.vegalite_to_svg(whole)
    svg = re.sub(r' (xmlns(:xlink)?|role|aria-[a-z]+)="[^"]*"', "", svg)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1)
    return re.sub(r'(id="|url\(#)', rf"\g<1>{name}-", svg)
