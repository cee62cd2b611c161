"""Several runs beside one another: what was set otherwise, what came of it, which dominate."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import markupsafe
import pyarrow as pa
import pyarrow.compute as pc

from taiji.config import POLICY, SFT, Recipe
from taiji.config.loading import leaves
from taiji.evaluation.figures import paired_figures
from taiji.report.cells import NOT_APPLICABLE, Cell, Table, Unit, figure_cell
from taiji.report.comparison_charts import Runs, comparison_charts
from taiji.report.highlights import funnel
from taiji.report.outcome import lift_figure
from taiji.report.paper_tables import TRACK_TITLES, WRITER_TITLES
from taiji.report.rendering import json_island, render
from taiji.report.run_files import ReportData

_UNITS: dict[str, Unit] = {"semantic": "number", "ctcvr": "rate"}


@dataclass(frozen=True)
class Section:
    """What a study says of some of its runs, before what is said of each run.

    Attributes:
        key: Names it in the address of the page.
        charts: As `comparison_charts` gives them.
    """

    key: str
    title: str
    words: str
    tables: Sequence[Table]
    charts: Mapping[str, markupsafe.Markup] = field(default_factory=dict)


def render_comparison(
    runs: Runs, title: str, sections: Sequence[Section] = (), *, served: bool = False
) -> str:
    """One page of several runs.

    Args:
        runs: Two or more.
        title: Of the page.
        sections: What a study says of them, first of all.
        served: Whether `taiji ui` hands it out.
    """
    outcomes = list(outcome_tables(runs))
    return render(
        "comparison.html.j2",
        served=served,
        title=title,
        runs=runs,
        sections=sections,
        differing=settings_table(runs),
        tables=[*outcomes, *paired_tables(runs), funnel_table(runs)],
        charts={} if sections else comparison_charts(runs, outcomes[:1], "Category L1", ""),
        island=json_island({}),
    )


def settings_that_differ(recipes: Mapping[str, Recipe]) -> dict[str, list[Any]]:
    """Dotted path -> its value in each run, for every setting that is not the same in all."""
    trees = [dict(leaves(recipe)) for recipe in recipes.values()]
    paths = dict.fromkeys(path for tree in trees for path in tree)
    absent = object()
    found = {path: [tree.get(path, absent) for tree in trees] for path in paths}
    return {
        path: ["" if value is absent else value for value in values]
        for path, values in found.items()
        if path != "name" and any(value != values[0] for value in values)
    }


def settings_table(runs: Runs) -> Table:
    """What was set otherwise."""
    differ = settings_that_differ({name: data.recipe for name, data in runs.items()})
    return Table(
        key="settings",
        title="Settings that differ",
        caption="All others are the same in every run." if differ else "No setting differs.",
        columns=("Setting", *runs),
        rows=tuple(
            (path, *("not set" if value is None else str(value) for value in values))
            for path, values in differ.items()
        ),
    )


def outcome_tables(runs: Runs) -> Iterator[Table]:
    """The last model of each run, judged on its test examples; and the ranking model."""
    for track, words in TRACK_TITLES.items():
        ranks = sorted({k for data in runs.values() if data.metrics for k in _ranks(data)})
        columns = {
            "answer_non_empty": "Answers",
            **{f"category_l{level}": f"Category L{level}" for level in (1, 2, 3)},
            **{f"title_hit_rate_at_{k}": f"Title_Hit-Rate@{k}" for k in ranks},
            "semantic": "Semantic",
            "ctcvr": "CTCVR (reward ranker)",
        }
        rows = tuple(
            (
                f"{name}: {WRITER_TITLES.get(writer, writer)}",
                *_figures(data, writer, track, columns),
            )
            for name, data in runs.items()
            if (writer := last_writer(data)) is not None
        )
        if rows:
            yield Table(
                key=f"outcome-{track}",
                title=f"What each run's last model answers: {words}",
                caption="95 % intervals over users. Runs on other data cannot be compared by them.",
                columns=("Run", *columns.values()),
                rows=rows,
            )
    yield from _lift_table(runs)


def _lift_table(runs: Runs) -> Iterator[Table]:
    ranked = {name: (data.metrics or {}).get("ranking") for name, data in runs.items()}
    found = {name: lift_figure(figures) for name, figures in ranked.items() if figures}
    rows: list[tuple[Cell, ...]] = [
        (
            f"{name}: {lift[0].replace(' - ', ' over ')}",
            *(figure_cell(lift[1], m, "fine") for m in _AUC),
        )
        for name, lift in found.items()
        if lift is not None
    ]
    if rows:
        yield Table(
            key="outcome-lift",
            title="What the text does for the ranking model",
            caption="Differences of AUC over the ranking model alone, 95 % intervals.",
            columns=("Run", *_AUC.values()),
            rows=tuple(rows),
        )


_AUC = {"click_auc": "Click AUC", "ctcvr_auc": "CTCVR AUC"}


def _ranks(data: ReportData) -> list[int]:
    return [] if data.metrics is None else [int(k) for k in data.metrics["hit_rate_at"]]


def last_writer(data: ReportData) -> str | None:
    """The policy, or what there is before it."""
    writers = {} if data.metrics is None else data.metrics["writers"]
    return next((name for name in (POLICY, SFT) if name in writers), None)


def _figures(
    data: ReportData, writer: str, track: str, columns: Mapping[str, str]
) -> Iterator[Cell]:
    assert data.metrics is not None, "a writer stands in metrics"
    figures = data.metrics["writers"][writer]["tracks"][track]
    return (figure_cell(figures, key, _UNITS.get(key, "share")) for key in columns)


def paired_tables(runs: Runs) -> Iterator[Table]:
    """Each run's last model over the first run's, user by user, where both answered the same."""
    (first, base), *others = runs.items()
    for track, words in TRACK_TITLES.items():
        rows: list[tuple[Cell, ...]] = []
        for name, data in others:
            figures = paired(data, base, track)
            if figures is not None:
                label = f"{name} – {first}"
                rows.append(
                    (label, *(figure_cell(figures, k, _UNITS.get(k, "share")) for k in _PAIRED))
                )
        if rows:
            yield Table(
                key=f"paired-{track}",
                title=f"Differences from {first}: {words}",
                caption="Paired by user, 95 % intervals; one that spans 0 shows no difference.",
                columns=("Runs", *_PAIRED.values()),
                rows=tuple(rows),
            )


_PAIRED = {
    "category_l1": "Category L1",
    "category_l2": "Category L2",
    "category_l3": "Category L3",
    "semantic": "Semantic",
    "ctcvr": "CTCVR (reward ranker)",
}


def paired(data: ReportData, base: ReportData, track: str) -> Mapping[str, Any] | None:
    """Figures of one run's last model minus another's; None where they were asked other things."""
    ours, theirs = (_judged(one, track) for one in (data, base))
    if ours is None or theirs is None or not ours["example_id"].equals(theirs["example_id"]):
        return None
    section = data.recipe.evaluate
    return paired_figures(
        ours,
        theirs,
        hit_rate_at=section.hit_rate_at,
        resamples=section.bootstrap,
        seed=data.recipe.seed,
    )


def _judged(data: ReportData, track: str) -> pa.Table | None:
    writer, rows = last_writer(data), data.judgements
    if rows is None or writer is None:
        return None
    chosen = pc.and_(pc.equal(rows["writer"], writer), pc.equal(rows["track"], track))
    return rows.filter(chosen).combine_chunks()


def funnel_table(runs: Runs) -> Table:
    """How much each run had at each step."""
    steps = {name: {step.what: step.number for step in funnel(d)} for name, d in runs.items()}
    whats = dict.fromkeys(what for one in steps.values() for what in one)
    rows = tuple(
        (what, *(f"{one[what]:,}" if what in one else NOT_APPLICABLE for one in steps.values()))
        for what in whats
    )
    seconds = (sum(m["seconds"] for m in data.manifests) for data in runs.values())
    return Table(
        key="funnels",
        title="How much of it there was",
        caption="Seconds are those of the last attempt of each stage; shared stages count in each.",
        columns=("Step", *runs),
        rows=(*rows, ("seconds", *(f"{one:,.0f}" for one in seconds))),
    )
