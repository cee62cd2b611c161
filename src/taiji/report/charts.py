"""Charts as inline SVG: rendered here, so that the page needs no script and no network.

Colours are CSS variables of the page, so a chart follows light and dark.
"""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import vl_convert

Rows = Sequence[Mapping[str, Any]]
Spec = dict[str, Any]

_WIDTH, _HEIGHT = 340, 230
_SEMANTIC, _PREFERENCE = "var(--semantic)", "var(--preference)"
_OTHERS = ("var(--kept)", "var(--rejected)", "var(--muted)")
_LEGEND_LETTERS = 36  # of one line
_SCATTER_POINTS = 600  # more would only cover each other

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


def perplexity_histogram(perplexities: Sequence[float], threshold: float | None) -> str:
    """Perplexities on a log axis, kept and rejected in two colours, with R as a line."""
    bins = {"bin": {"maxbins": 40}, "field": "log10", "type": "quantitative"}
    values = [_bar_row(value, threshold) for value in perplexities if value > 0]
    bars: Spec = {
        "mark": {"type": "bar", "binSpacing": 1},
        "encoding": {
            "x": {**bins, "title": "perplexity of the true answer", "axis": _round_ticks()},
            "y": {"aggregate": "count", "title": "chains"},
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
    return _svg({"data": {"values": values}, "layer": layers}, "ppl")


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
    return _svg({**spec, "height": 46 + 30 * len(values)}, "reasons")


def lines_chart(steps: Rows, columns: Mapping[str, str], title: str, name: str) -> str:
    """One line per column over training steps; the paper's rewards have colours of their own."""
    values = [
        {"step": row["step"], "value": row[column], "series": series}
        for row in steps
        for column, series in columns.items()
        if row.get(column) is not None
    ]
    encoding = {
        "x": {
            "field": "step",
            "type": "quantitative",
            "title": "step",
            "axis": {"tickMinStep": 1, "tickCount": 5},
        },
        "y": {
            "field": "value",
            "type": "quantitative",
            "title": title,
            "scale": {"zero": False, "nice": True},
        },
        "color": _series_colour(list(columns.values())),
    }
    point = len(steps) <= 40
    mark = {"type": "line", "strokeWidth": 2, "point": {"size": 18} if point else False}
    return _svg({"data": {"values": values}, "mark": mark, "encoding": encoding}, name)


def intervals_chart(rows: Rows, title: str, name: str) -> str:
    """A dot with its 95 % interval for each writer; `rows` hold writer, value, low, high."""
    y: Spec = {"field": "writer", "type": "nominal", "sort": None, "title": None}
    y["axis"] = {"labelLimit": 190, "labelColor": "var(--ink)"}
    x = {"type": "quantitative", "title": title, "axis": {"format": ".0%"}}
    rule = {
        "mark": {"type": "rule", "color": "var(--accent)", "strokeWidth": 2},
        "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y},
    }
    dot = {
        "mark": {"type": "point", "filled": True, "size": 60, "color": "var(--accent)"},
        "encoding": {"x": {**x, "field": "value"}, "y": y},
    }
    spec: Spec = {"data": {"values": list(rows)}, "layer": [rule, dot]}
    padding = {"left": 26, "right": 10, "top": 2, "bottom": 2}
    return _svg({**spec, "height": 46 + 26 * len(rows), "padding": padding}, name)


def reward_scatter(rollouts: Rows) -> str:
    """Semantic against preference reward of rollouts, first and last third in two colours."""
    shown = rollouts[:: max(1, -(-len(rollouts) // _SCATTER_POINTS))]
    last = max((row["step"] for row in rollouts), default=0)
    first = min((row["step"] for row in rollouts), default=0)
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
    return _svg({"data": {"values": values}, "mark": mark, "encoding": encoding}, "scatter")


def _bar_row(perplexity: float, threshold: float | None) -> Spec:
    below = threshold is not None and perplexity < threshold
    # Vega-Lite bins a log scale unevenly, so the logarithm is taken here and labelled back.
    return {"log10": math.log10(perplexity), "side": "below R" if below else "at or above R"}


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


def _svg(spec: Spec, name: str) -> str:
    """Render, with ids that are unique in the page and no namespace that looks like a link."""
    whole = {"width": _WIDTH, "height": _HEIGHT, "config": _CONFIG, **spec}
    svg = vl_convert.vegalite_to_svg(whole)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    return re.sub(r'(id="|url\(#)', rf"\g<1>{name}-", svg)
