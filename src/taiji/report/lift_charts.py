"""The dose-response curve as a picture of its own: SVG, PNG, and the specification behind both."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import vl_convert

from taiji.lift.reading import GROUP, MEASURE

Spec = dict[str, Any]

_COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951")
_REFRESH = {"window": "once a window", "week": "once a week", "visit": "before each visit"}
_AMONG = {"all": "all categories", "offer": "categories on offer"}
_SCALE = 2.0


def dose_response_chart(metrics: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> content of the curve of `taiji ceiling`.

    Across: the share of names that come true. Up: the gain in click AUC with its interval. Crosses
    are what the log alone names; they lie below the curve where the ranking model knows it already.
    """
    spec = _spec(metrics)
    svg = vl_convert.vegalite_to_svg(spec)
    return {
        "curve.json": (json.dumps(spec, indent=1, sort_keys=True) + "\n").encode(),
        "curve.svg": svg.encode(),
        "curve.png": bytes(vl_convert.vegalite_to_png(spec, scale=_SCALE)),
    }


def _spec(metrics: Mapping[str, Any]) -> Spec:
    x: Spec = {
        "field": "right",
        "type": "quantitative",
        "title": "names that come true",
        "axis": {"format": ".0%", "tickCount": 5},
    }
    y: Spec = {"type": "quantitative", "title": "gain in click AUC"}
    names = [str(n) for n in sorted({point["names"] for point in metrics["points"]})]
    colour: Spec = {
        "field": "names",
        "type": "nominal",
        "title": "names a text",
        "scale": {"domain": names, "range": list(_COLOURS)},
    }
    of_oracle = {"test": "datum.list === 'oracle'"}
    band = {
        "transform": [{"filter": of_oracle["test"]}],
        "mark": {"type": "area", "opacity": 0.18},
        "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": colour},
    }
    line = {
        "transform": [{"filter": of_oracle["test"]}],
        "mark": {"type": "line", "point": {"size": 22}},
        "encoding": {"x": x, "y": {**y, "field": "gain"}, "color": colour},
    }
    cross = {
        "transform": [{"filter": "datum.list !== 'oracle'"}],
        "mark": {"type": "point", "size": 60, "strokeWidth": 2},
        "encoding": {
            "x": x,
            "y": {**y, "field": "gain"},
            "color": colour,
            "shape": {
                "field": "list",
                "type": "nominal",
                "title": "the log alone",
                "scale": {"range": ["cross", "triangle-up", "square"]},
            },
        },
    }
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white",
        "data": {"values": _values(metrics)},
        "facet": {
            "row": {"field": "among", "type": "nominal", "title": None},
            "column": {"field": "refresh", "type": "nominal", "title": None, "sort": None},
        },
        "spec": {"width": 260, "height": 190, "layer": [band, line, cross]},
        "config": {"font": "system-ui, sans-serif", "axis": {"gridColor": "#eee"}},
    }


def _values(metrics: Mapping[str, Any]) -> list[Spec]:
    rows = [_value(point, "oracle", point["among"]) for point in metrics["points"]]
    universes = sorted({point["among"] for point in metrics["points"]})
    rows += [_value(one, one["list"], among) for among in universes for one in _log(metrics)]
    return [row for row in rows if row["gain"] is not None]


def _log(metrics: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = metrics["log"]
    return found


def _value(point: Mapping[str, Any], list_: str, among: str) -> Spec:
    figure = point["groups"][GROUP][MEASURE]
    return {
        "list": list_,
        "refresh": _REFRESH[point["refresh"]],
        "among": _AMONG[among],
        "names": str(point["names"]),
        "right": point["right"],
        "gain": figure["value"],
        "low": figure["low"],
        "high": figure["high"],
    }
