"""report.html: one file that explains a run to a person. No script, no network, all text escaped.

A strict content policy forbids everything but the page's own style, so that a title or a chain
of thought that carries markup can be nothing but text.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import numpy as np
import pyarrow as pa

from taiji.config import Recipe
from taiji.report import charts
from taiji.report.alarms import alarms
from taiji.report.cards import NUM_CARDS, CardTables, build_cards
from taiji.report.cells import Table, condensed, point_text, range_text
from taiji.report.outcome import not_seen, seen
from taiji.report.paper_tables import WRITER_TITLES, build_tables, weighting_title
from taiji.report.reward_charts import reward_charts, reward_names, top_answers
from taiji.schema import OUTSIDE

Row = Mapping[str, Any]
# Controls of direction and invisible spaces. Joiners stay: emoji and Persian need them.
_HIDDEN = frozenset(
    "\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
_WHAT_IF_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True)
class ReportData:
    """What a run has so far; None, or empty, where a stage has not finished.

    Attributes:
        sizes: Row counts by table name.
        manifests: The manifest of each finished stage, in the order of the pipeline.
    """

    recipe: Recipe
    sizes: Mapping[str, int] = field(default_factory=dict)
    examples: pa.Table | None = None
    items: pa.Table | None = None
    candidates: pa.Table | None = None
    scored: pa.Table | None = None
    threshold: Row | None = None
    sft_steps: Sequence[Row] = ()
    align_steps: Sequence[Row] = ()
    rollouts: pa.Table | None = None
    texts: pa.Table | None = None
    features: pa.Table | None = None
    judgements: pa.Table | None = None
    metrics: Row | None = None
    manifests: Sequence[Row] = ()


def render_report(data: ReportData, num_cards: int = NUM_CARDS) -> str:
    """The whole page as one string of HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["point"] = point_text
    environment.filters["range"] = range_text
    environment.filters["wrap"] = _breakable
    environment.globals["outside_rank"] = OUTSIDE
    environment.tests["measured"] = lambda cell: not isinstance(cell, str)
    return environment.get_template("page.html.j2").render(
        data=data,
        recipe=data.recipe,
        teacher=_teacher(data),
        splits=_splits(data.examples),
        selection=selection_summary(data.scored, data.threshold),
        charts={name: markupsafe.Markup(svg) for name, svg in _charts(data).items()},
        tables=_tables(data),
        seen=[] if data.metrics is None else list(seen(_summaries(data), data.metrics)),
        not_seen=[] if data.metrics is None else list(not_seen(_summaries(data), data.metrics)),
        alarms=alarms(_summaries(data), data.metrics),
        cards=_cards(data, num_cards),
        reward_names=reward_names(data.align_steps),
        top_answers=[] if data.rollouts is None else top_answers(data.rollouts, data.items),
        writer_titles=WRITER_TITLES,
        weighting=weighting_title(data.recipe.align.weights.scheme),
    )


def selection_summary(scored: pa.Table | None, threshold: Row | None) -> Row | None:
    """What ORFT's selection did, and what other thresholds would have kept.

    The threshold is that of the perplexity; None where another score or none decided.
    `below` counts chains with a perplexity under R; `kept` counts those that also passed the
    other guards, so it can only be smaller.
    """
    if scored is None or threshold is None:
        return None
    perplexities = _finite(scored["perplexity"])
    kind = threshold.get("filter", "ppl")
    limit = threshold["threshold"] if kind == "ppl" else None
    kept = scored["kept"].to_pylist()
    quantiles = np.quantile(perplexities, _WHAT_IF_QUANTILES) if perplexities.size else []
    return {
        "threshold": limit,
        "filter": kind,
        "rule": str(threshold.get("rule", "")),
        "num": scored.num_rows,
        "num_kept": sum(kept),
        "share_kept": sum(kept) / max(1, len(kept)),
        "num_scored": int(perplexities.size),
        "share_below": None if limit is None else _share_below(perplexities, limit),
        "what_if": [(float(r), _share_below(perplexities, float(r))) for r in quantiles],
        "reasons": Counter(scored["reason"].to_pylist()).most_common(),
    }


def _share_below(perplexities: np.ndarray[Any, Any], limit: float) -> float:
    return float((perplexities < limit).mean()) if perplexities.size else 0.0


def _finite(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    return np.array([value for value in column.to_pylist() if value is not None], dtype=np.float64)


def _summaries(data: ReportData) -> Mapping[str, Row]:
    return {manifest["stage"]: manifest["summary"] for manifest in data.manifests}


def _tables(data: ReportData) -> list[Table]:
    return [] if data.metrics is None else [condensed(one) for one in build_tables(data.metrics)]


def _teacher(data: ReportData) -> str:
    """Who wrote the chains, from the chains themselves where there are any."""
    chains = data.scored if data.scored is not None else data.candidates
    if chains is not None and chains.num_rows:
        return ", ".join(sorted(set(chains["teacher"].to_pylist())))
    return data.recipe.distill.teacher.kind


def _splits(examples: pa.Table | None) -> Mapping[str, int]:
    return {} if examples is None else Counter(examples["split"].to_pylist())


def _cards(data: ReportData, num_cards: int) -> list[Any]:
    if data.examples is None or data.items is None:
        return []
    chains = data.scored if data.scored is not None else data.candidates
    tables = CardTables(
        examples=data.examples,
        items=data.items,
        chains=chains,
        texts=data.texts,
        judgements=data.judgements,
        rollouts=data.rollouts,
        features=data.features,
    )
    return list(build_cards(tables, num_cards))


def _charts(data: ReportData) -> dict[str, str]:
    """Every chart for which there is data."""
    drawn: dict[str, str] = {}
    selection = selection_summary(data.scored, data.threshold)
    if data.scored is not None and selection is not None:
        values = _finite(data.scored["perplexity"]).tolist()
        drawn["perplexity"] = charts.perplexity_histogram(values, selection["threshold"])
        drawn["reasons"] = charts.reasons_chart(dict(selection["reasons"]))
    if any("loss" in row for row in data.sft_steps):
        drawn["sft"] = charts.lines_chart(data.sft_steps, {"loss": "loss"}, "loss (Eq. 2)", "sft")
    drawn |= reward_charts(data.align_steps)
    if (
        data.rollouts is not None
        and data.rollouts["preference"].null_count < data.rollouts.num_rows
    ):
        drawn["scatter"] = charts.reward_scatter(data.rollouts.to_pylist())
    if data.metrics is not None:
        drawn |= _interval_charts(data.metrics)
    return drawn


def _interval_charts(metrics: Row) -> dict[str, str]:
    largest = max(metrics["hit_rate_at"])
    shown = {
        f"title_hit_rate_at_{largest}": f"Title_Hit-Rate@{largest}, novel titles",
        "category_l2": "Category L2, novel titles",
        "category_l3": "Category L3, novel titles",
    }
    drawn = {}
    for number, (key, title) in enumerate(shown.items()):
        rows = [
            {"writer": WRITER_TITLES.get(name, name), **figures["tracks"]["novel"][key]}
            for name, figures in metrics["writers"].items()
            if key in figures["tracks"]["novel"]
        ]
        if rows:
            drawn[f"interval_{number}"] = charts.intervals_chart(rows, title, f"interval{number}")
    return drawn


def _breakable(text: str) -> markupsafe.Markup:
    """Let a long name break after its underscores."""
    return markupsafe.Markup("_<wbr>").join(text.split("_"))


def _shown(value: Any) -> Any:
    """Make characters visible that would reorder, hide or break the text around them."""
    if type(value) is not str:  # Markup is a str too, and is already what it should be
        return value
    return "".join(_visible(char) for char in value)


def _visible(char: str) -> str:
    hidden = char in _HIDDEN or unicodedata.category(char) in {"Cc", "Cs"}
    return f"⟨U+{ord(char):04X}⟩" if hidden and char not in "\n\t" else char
