"""What came of a run, for the first screen: a funnel, two chains, form, and how far it reached."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from taiji.config import POLICY, SFT, UNTUNED
from taiji.lift.reading import GROUP, MEASURE
from taiji.report.cards import Episode, shuffled
from taiji.report.outcome import lift_figure
from taiji.report.run_files import ReportData, with_histories
from taiji.report.stage_words import writer_name

Row = Mapping[str, Any]

FORM = {
    "think_tag_presence": "thinks in tags",
    "think_non_empty": "says something there",
    "answer_non_empty": "gives an answer",
}


@dataclass(frozen=True)
class Step:
    """One step of the funnel; `share` is the length of its bar, on a scale of logarithms."""

    stage: str
    number: int
    what: str
    share: float


@dataclass(frozen=True)
class Twins:
    """Two chains for one user and one target: one was kept, the other rejected by R."""

    episode: Episode
    kept: Row
    rejected: Row


def funnel(data: ReportData) -> list[Step]:
    """How much went in and how much was left, from log lines to rows of features."""
    found = [(stage, number, what) for stage, number, what in _counted(data) if number]
    most = math.log10(max((number for _, number, _ in found), default=1) + 1)
    return [Step(s, n, w, math.log10(n + 1) / most) for s, n, w in found]


def _counted(data: ReportData) -> Iterator[tuple[str, int, str]]:
    summaries = {manifest["stage"]: manifest["summary"] for manifest in data.manifests}
    construct = summaries.get("construct", {})
    yield "construct", int(construct.get("lines read", 0)), "lines of the log read"
    yield "construct", data.sizes.get("interactions", 0), "interactions kept"
    yield "construct", data.sizes.get("users", 0), "users"
    if data.examples is not None:
        yield "construct", _equal(data.examples, "split", "sft"), "moments to explain"
    chains = data.scored if data.scored is not None else data.candidates
    if chains is not None:
        yield "distill", chains.num_rows, "chains of thought written"
    if data.scored is not None:
        yield "refine", int(pc.sum(data.scored["kept"]).as_py() or 0), "chains kept"
    yield "sft", int(summaries.get("sft", {}).get("examples", 0)), "chains learnt from"
    if data.rollouts is not None:
        yield "align", data.rollouts.num_rows, "rollouts rewarded"
    if data.features is not None:
        yield "features", data.features.num_rows, "users and moments with features"


def lift(metrics: Row | None) -> tuple[str, str] | None:
    """What the funnel ends in: the gain in AUC that the text brought, and of what, in words."""
    ranking = None if metrics is None else metrics.get("ranking")
    found = None if not ranking else lift_figure(ranking)
    if found is None:
        return None
    name, figures = found
    for measure, title in (("ctcvr_auc", "CTCVR AUC"), ("click_auc", "click AUC")):
        figure = figures.get(measure)
        if figure and figure["value"] is not None and figure["low"] is not None:
            words = f"{title}, {name.replace(' - ', ' over ')}"
            return (
                f"{figure['value']:+.4f}",
                f"{words} [{figure['low']:+.4f}, {figure['high']:+.4f}]",
            )
    return None


def _equal(table: pa.Table, column: str, value: str) -> int:
    return int(pc.sum(pc.equal(table[column], value)).as_py() or 0)


def twins(data: ReportData) -> Twins | None:
    """As Figure 2 of the paper: of one example, the likeliest kept and the least likely rejected.

    Which example is chosen by a hash, so not by how well it looks.
    """
    if data.scored is None or data.examples is None or data.items is None:
        return None
    kept = data.scored.filter(data.scored["kept"])
    rejected = data.scored.filter(pc.equal(data.scored["reason"], "perplexity"))
    both = kept.filter(pc.is_in(kept["example_id"], rejected["example_id"].combine_chunks()))
    known = both.filter(pc.is_in(both["example_id"], data.examples["example_id"].combine_chunks()))
    names = known["example_id"].unique().to_pylist()
    if not names:
        return None
    chosen = min(names, key=shuffled)
    is_chosen = pc.equal(data.examples["example_id"], chosen)
    example = with_histories(data.examples, is_chosen, data.histories).to_pylist()[0]
    best, worst = (
        sorted(
            table.filter(pc.equal(table["example_id"], chosen)).to_pylist(),
            key=lambda row: row["perplexity"],
        )
        for table in (kept, rejected)
    )
    return Twins(_episode(example, data.items), best[0], worst[-1])


def _episode(example: Row, items: pa.Table) -> Episode:
    wanted = [example["target_item_id"], example["novel_target_item_id"]]
    known = pa.array([item for item in wanted if item], pa.string())
    rows = items.filter(pc.is_in(items["item_id"], known)).to_pylist()
    by_id = {row["item_id"]: row for row in rows}
    return Episode(example, *(by_id.get(item) for item in wanted))


def form_before_and_after(metrics: Row | None) -> list[tuple[str, list[float | None]]]:
    """Each part of the form, and which share of answers has it, model by model."""
    writers = {} if metrics is None else metrics["writers"]
    models = [name for name in (UNTUNED, SFT, POLICY) if name in writers]
    rows = []
    for key, words in FORM.items():
        found = [writers[m]["tracks"]["any"].get(key, {}).get("value") for m in models]
        if any(value is not None for value in found):
            rows.append((words, found))
    return rows


def form_models(metrics: Row | None) -> list[str]:
    """The models of `form_before_and_after`, in its order, in words."""
    writers: Row = {} if metrics is None else metrics["writers"]
    return [writer_name(name) for name in (UNTUNED, SFT, POLICY) if name in writers]


def reach(data: ReportData) -> list[dict[str, Any]]:
    """Gains in click AUC with intervals: the most that a text could bring, and what was brought."""
    rows = [*_ceiling(data.ceiling), *_surplus(data.surplus), *_lift(data.metrics)]
    return [row for row in rows if row["value"] is not None and row["low"] is not None]


def _ceiling(metrics: Row | None) -> Iterator[dict[str, Any]]:
    readings: Sequence[Row] = [] if metrics is None else metrics["readings"]
    gained = [one for one in readings if one["best"]["value"] is not None]
    if gained:
        best = max(gained, key=lambda one: one["best"]["value"])
        names = f"{best['names']} name{'s' if best['names'] > 1 else ''}"
        yield _named(f"ceiling: always right, {names} a {best['refresh']}", best["best"])


def _surplus(metrics: Row | None) -> Iterator[dict[str, Any]]:
    for name, found in ({} if metrics is None else metrics["texts"]).items():
        views = found["views"]
        view = "both" if "both" in views else next(iter(views))
        figure = views[view]["groups"][GROUP].get(MEASURE)
        if figure is not None:
            yield _named(f"texts of {name.replace(':', ', ')}", figure)


def _lift(metrics: Row | None) -> Iterator[dict[str, Any]]:
    ranking = None if metrics is None else metrics.get("ranking")
    if not ranking:
        return
    for backbone, groups in ranking["backbones"].items():
        for name, figures in groups["all"]["contrasts"].items():
            if ranking["contrasts"].get(name) == "lift" and MEASURE in figures:
                yield _named(
                    f"ranked: {name.replace(' - ', ' over ')}, {backbone}", figures[MEASURE]
                )


def _named(words: str, figure: Row) -> dict[str, Any]:
    return {"writer": words, **{key: figure.get(key) for key in ("value", "low", "high")}}
