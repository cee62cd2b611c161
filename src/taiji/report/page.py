"""report.html: one file that explains a run to a person, offline, with all text escaped."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import markupsafe
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taiji.arrays import Array
from taiji.report import charts
from taiji.report.alarms import alarms
from taiji.report.cards import NUM_CARDS, Card, CardTables, build_cards, user_card
from taiji.report.cells import Table, condensed
from taiji.report.explorer import page_data
from taiji.report.highlights import (
    form_before_and_after,
    form_models,
    funnel,
    lift,
    reach,
    twins,
)
from taiji.report.outcome import not_seen, seen
from taiji.report.outward import sent_out
from taiji.report.paper_tables import WRITER_TITLES, build_tables, weighting_title
from taiji.report.rendering import json_island, render
from taiji.report.reward_charts import reward_charts, reward_names, top_answers
from taiji.report.run_files import ReportData
from taiji.report.selection_charts import perplexity_histogram, reasons_chart

Row = Mapping[str, Any]
_WHAT_IF_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def render_report(
    data: ReportData, num_cards: int = NUM_CARDS, *, explored: Row | None = None
) -> str:
    """The whole page as one string of HTML.

    Args:
        data: What the run has.
        num_cards: Users to show.
        explored: What the script reads, where a server hands the page out; None: all of it is
            in the page.
    """
    metrics = data.metrics
    return render(
        "page.html.j2",
        served=explored is not None,
        data=data,
        recipe=data.recipe,
        title=data.recipe.name,
        teacher=_teacher(data),
        splits=_splits(data.examples),
        funnel=funnel(data),
        lift=lift(metrics),
        twins=twins(data),
        form=form_before_and_after(metrics),
        form_models=form_models(metrics),
        selection=selection_summary(data.scored, data.threshold),
        charts={name: markupsafe.Markup(svg) for name, svg in _charts(data).items()},
        tables=_tables(data),
        seen=[] if metrics is None else list(seen(_summaries(data), metrics)),
        not_seen=[] if metrics is None else list(not_seen(_summaries(data), metrics)),
        alarms=alarms(_summaries(data), metrics),
        cards=_cards(data, num_cards),
        reward_names=reward_names(data.align_steps),
        top_answers=[] if data.rollouts is None else top_answers(data.rollouts, data.items),
        writer_titles=WRITER_TITLES,
        weighting=weighting_title(data.recipe.align.weights.scheme),
        health=_health(data),
        sent=sent_out(data.recipe, data.calls),
        island=json_island(page_data(data) if explored is None else explored),
    )


def render_user(data: ReportData, user_id: str, back: str) -> str | None:
    """A page of one user, by pseudonym; None if no stage saw the user.

    Args:
        data: What the run has.
        user_id: The pseudonym.
        back: Where the run's page is.
    """
    tables = _card_tables(data)
    card = None if tables is None else user_card(tables, user_id)
    if card is None:
        return None
    return render(
        "user.html.j2",
        served=True,
        title=f"{data.recipe.name}: {user_id}",
        card=card,
        recipe=data.recipe,
        writer_titles=WRITER_TITLES,
        back=back,
        island=json_island({}),
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
    num_kept = int(pc.sum(scored["kept"]).as_py() or 0)
    quantiles: Any = np.quantile(perplexities, _WHAT_IF_QUANTILES) if perplexities.size else []
    return {
        "threshold": limit,
        "filter": kind,
        "rule": str(threshold.get("rule", "")),
        "num": scored.num_rows,
        "num_kept": num_kept,
        "num_scored": int(perplexities.size),
        "share_below": None if limit is None else _share_below(perplexities, limit),
        "what_if": [(float(r), _share_below(perplexities, float(r))) for r in quantiles],
        "reasons": Counter(_counts(scored["reason"])).most_common(),
    }


def _share_below(perplexities: Array, limit: float) -> float:
    return float((perplexities < limit).mean()) if perplexities.size else 0.0


def _finite(column: pa.ChunkedArray) -> Array:
    return np.asarray(column.drop_null().to_numpy(), dtype=np.float64)


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    counted = column.value_counts()
    return dict(zip(*(counted.field(n).to_pylist() for n in ("values", "counts")), strict=True))


def _summaries(data: ReportData) -> Mapping[str, Row]:
    return {manifest["stage"]: manifest["summary"] for manifest in data.manifests}


def _tables(data: ReportData) -> list[Table]:
    return [] if data.metrics is None else [condensed(one) for one in build_tables(data.metrics)]


def _teacher(data: ReportData) -> str:
    """Who wrote the chains, from the chains themselves where there are any."""
    chains = data.scored if data.scored is not None else data.candidates
    if chains is not None and chains.num_rows:
        return ", ".join(sorted(chains["teacher"].unique().to_pylist()))
    return data.recipe.distill.teacher.kind


def _splits(examples: pa.Table | None) -> Mapping[str, int]:
    return {} if examples is None else _counts(examples["split"])


def _cards(data: ReportData, num_cards: int) -> list[Card]:
    tables = _card_tables(data)
    return [] if tables is None else build_cards(tables, num_cards)


def _card_tables(data: ReportData) -> CardTables | None:
    if data.examples is None or data.items is None:
        return None
    return CardTables(
        examples=data.examples,
        histories=data.histories,
        items=data.items,
        chains=data.scored if data.scored is not None else data.candidates,
        texts=data.texts,
        judgements=data.judgements,
        rollouts=data.rollouts,
        features=data.features,
    )


def _health(data: ReportData) -> list[dict[str, Any]]:
    """Each finished stage with how often it began, and what is not as it should be."""
    rows = []
    for manifest in data.manifests:
        tries = [one for one in data.attempts if one["key"] == manifest["key"]]
        rows.append(
            {
                "manifest": manifest,
                "attempts": len(tries),
                "resumed": sum(one["resumed"] for one in tries),
                "began": tries[0]["began"] if tries else "",
            }
        )
    return rows


def _charts(data: ReportData) -> dict[str, str]:
    """Every chart for which there is data."""
    drawn: dict[str, str] = {}
    selection = selection_summary(data.scored, data.threshold)
    if data.scored is not None and selection is not None:
        values = _finite(data.scored["perplexity"])
        drawn["perplexity"] = perplexity_histogram(values, selection["threshold"])
        drawn["reasons"] = reasons_chart(dict(selection["reasons"]))
    if any("loss" in row for row in data.sft_steps):
        drawn["sft"] = charts.lines_chart(data.sft_steps, {"loss": "loss"}, "loss (Eq. 2)", "sft")
    drawn |= reward_charts(data.align_steps)
    if (
        data.rollouts is not None
        and data.rollouts["preference"].null_count < data.rollouts.num_rows
    ):
        drawn["scatter"] = charts.reward_scatter(data.rollouts)
    if rows := reach(data):
        title = "gain in click AUC"
        drawn["reach"] = charts.labelled_intervals_chart(
            rows, title, "reach", "+.4~f", with_zero=True
        )
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
