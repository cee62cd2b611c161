"""Charts as inline SVG: rendered here, so that the page needs no script and no network.

Colours are CSS variables of the page, so a chart follows light and dark.
"""

import html
import re
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pyarrow as pa
import vl_convert

Rows = Sequence[Mapping[str, Any]]
Spec = dict[str, Any]

_WIDTH, _HEIGHT = 340, 230
_SEMANTIC, _PREFERENCE = "var(--semantic)", "var(--preference)"
_OTHERS = ("var(--kept)", "var(--rejected)", "var(--muted)")
_DOT = "var(--accent)"
_DASHES = ([1, 0], [5, 3], [1, 3])
_LEGEND_LETTERS = 36  # of one line
_SCATTER_POINTS = 600  # more would only cover each other

_CONFIG: Spec = {
    "autosize": {"type": "fit", "contains": "padding"},
    "background": None,
    "font": "system-ui, sans-serif",
    # Room for a reader's font that is wider than the one that the renderer measures with.
    "padding": {"left": 12, "right": 8, "top": 7, "bottom": 2},
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titlePadding": 9,
        "labelSeparation": 10,  # for the same reason
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
        "columnPadding": 18,
    },
}


def lines_chart(
    steps: Rows, columns: Mapping[str, str], title: str, name: str, least: float = 0.0
) -> str:
    """One line per column over training steps; the paper's rewards have colours of their own.

    What moves by less than `least` looks like it: the axis is never shorter. What is 0 all the
    way lies at the foot of such an axis.
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
        low = 0.0 if max(found) == min(found) == 0 else middle - least / 2
        scale = {"domain": [low, low + least]}
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
        **_series_look(list(columns.values())),
    }
    point = len(steps) <= 40
    mark = {"type": "line", "strokeWidth": 2, "point": {"size": 18} if point else False}
    return draw(
        {"data": {"values": values}, "mark": mark, "encoding": encoding}, name, f"{title} by step"
    )


def intervals_chart(rows: Rows, title: str, name: str) -> str:
    """A dot with its 95 % interval for each writer; `rows` hold writer, value, low, high."""
    y = {**_WRITER, "axis": {"labelLimit": 260, "labelColor": "var(--ink)"}}
    spec: Spec = {"data": {"values": list(rows)}, "layer": _intervals(y, title, ".0%")}
    padding = {"left": 26, "right": 10, "top": 2, "bottom": 2}
    spec |= {"height": 46 + 26 * len(rows), "padding": padding}
    return draw(spec, name, f"{title}, by writer")


def labelled_intervals_chart(
    rows: Rows, title: str, name: str, digits: str, *, with_zero: bool = False
) -> str:
    """The same for long names: each stands above its interval, so that a phone can show it.

    Args:
        rows: As above.
        title: Of the axis.
        name: Of the chart.
        digits: Format of the ticks.
        with_zero: Whether a line stands at 0, as where the rows are gains.
    """
    axis = {
        "labelAlign": "left",
        "labelColor": "var(--ink)",
        "labelLimit": 300,
        "labelOffset": -11,
        "labelPadding": -6,
        "domain": False,
        "ticks": False,
    }
    layers = _intervals({**_WRITER, "axis": axis}, title, digits)
    if with_zero:
        zero = {
            "data": {"values": [{}]},
            "mark": {"type": "rule", "color": "var(--muted)", "strokeDash": [4, 3]},
            "encoding": {"x": {"datum": 0, "type": "quantitative"}},
        }
        layers = [zero, *layers]
    spec: Spec = {"data": {"values": list(rows)}, "layer": layers}
    padding = {"left": 8, "right": 16, "top": 2, "bottom": 2}
    return draw({**spec, "height": 48 + 36 * len(rows), "padding": padding}, name, title)


_WRITER: Spec = {"field": "writer", "type": "nominal", "sort": None, "title": None}


def _intervals(y: Spec, title: str, digits: str) -> list[Spec]:
    x = {"type": "quantitative", "title": title, "axis": {"format": digits}}
    rule = {
        "mark": {"type": "rule", "color": "var(--accent)", "strokeWidth": 2},
        "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y},
    }
    dot = {
        "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1, "color": _DOT},
        "encoding": {"x": {**x, "field": "value"}, "y": y},
    }
    return [rule, dot]


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
    return draw(
        {"data": {"values": values}, "mark": mark, "encoding": encoding},
        "scatter",
        "rewards of rollouts",
    )


def _series_look(series: list[str]) -> Spec:
    """Colours, and dashes where there are more lines than colours."""
    fixed = {"semantic": _SEMANTIC, "preference": _PREFERENCE}
    palette = _OTHERS if fixed.keys() & set(series) else (_SEMANTIC, _PREFERENCE, *_OTHERS)
    others = cycle(palette)
    colours = [fixed.get(name) or next(others) for name in series]
    fits = len("".join(series)) <= _LEGEND_LETTERS
    legend = None if len(series) == 1 else {"columns": 3 if fits else 2}
    field: Spec = {"field": "series", "type": "nominal", "legend": legend}
    look = {"color": {**field, "scale": {"domain": series, "range": colours}}}
    if len(series) > len(palette):
        dashes = [_DASHES[n // len(palette) % len(_DASHES)] for n in range(len(series))]
        look["strokeDash"] = {**field, "scale": {"domain": series, "range": dashes}}
    return look


def draw(spec: Spec, name: str, label: str) -> str:
    """Render, with ids that are unique in the page and no namespace that looks like a link.

    A chart is one picture with one name to whoever cannot see it; its figures stand in tables.
    """
    whole = {"width": _WIDTH, "height": _HEIGHT, "config": _CONFIG, **spec}
    svg = vl_convert.vegalite_to_svg(whole)
    svg = re.sub(r' (xmlns(:xlink)?|role|aria-[a-z]+)="[^"]*"', "", svg)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1)
    return re.sub(r'(id="|url\(#)', rf"\g<1>{name}-", svg)
