"""Charts of the selection: perplexities of chains around R, and the verdict on each."""

import math
from collections.abc import Mapping

import numpy as np

from taiji.arrays import Array
from taiji.report.charts import Spec, draw

_BINS = 40


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
    return draw({"data": {"values": values}, "layer": layers}, "ppl", "perplexities of chains")


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
    return draw({**spec, "height": 46 + 30 * len(values)}, "reasons", "chains by verdict")


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
