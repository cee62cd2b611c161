"""Tables of `taiji ceiling` and `taiji surplus`."""

from collections.abc import Iterator, Mapping
from typing import Any

from taiji.lift.reading import GROUP, MEASURE, curves
from taiji.lift.surplus import SERVED
from taiji.report.cells import NOT_APPLICABLE, Cell, Measured, Metrics, Table, figure_cell
from taiji.report.stage_words import percent

_WHEN = {"window": "once a window", "week": "once a week", "visit": "before each visit"}
_VIEWS = {"names": "names", "meaning": "cosine", "both": "both", "likelihood": "likelihood"}
_SHOWN = (0.0, 0.1, 0.25, 1.0)
"""Accuracies of the first table; metrics.json and the picture have all."""


def ceiling_tables(metrics: Metrics) -> tuple[Table, ...]:
    """The dose-response, what it takes to see it, and what the log alone names."""
    return (
        _dose_table(metrics),
        _needs_table(metrics),
        _groups_table(metrics),
        _log_table(metrics),
    )


def _text(names: int, refresh: str, among: str = "all") -> str:
    offer = ", from the offer" if among == "offer" else ""
    return f"{names} name{'s' if names > 1 else ''} {_WHEN[refresh]}{offer}"


def _dose_table(metrics: Metrics) -> Table:
    accuracies = [point["accuracy"] for point in metrics["points"]]
    shown = [accuracy for accuracy in _SHOWN if accuracy in accuracies]
    rows = []
    for (refresh, among, names), curve in curves(metrics["points"]).items():
        by_accuracy = {point["accuracy"]: point["groups"][GROUP] for point in curve}
        cells = [figure_cell(by_accuracy[accuracy], MEASURE, "fine") for accuracy in shown]
        rows.append((_text(names, refresh, among), *cells))
    counts = metrics["counts"]
    base = metrics["base"][GROUP][MEASURE]
    few = (
        " Few clicks were kept from training: intervals are wide." if metrics["few_clicks"] else ""
    )
    return Table(
        key="ceiling",
        title="Ceiling: gain in click AUC of an oracle that is right so often",
        caption=(
            f"Base {base:.4f}; {counts['test_exposures']:,} test exposures, {counts['users']:,} "
            f"users; stacks fitted on {counts['held_exposures']:,} exposures with "
            f"{counts['held_clicks']:,} clicks; {metrics['seeds']} seeds; 95 % over users and fits."
            f"{few} {metrics['words']} The curve is drawn in curve.svg."
        ),
        columns=("Text", *(f"{100 * accuracy:.0f} % right" for accuracy in shown)),
        rows=tuple(rows),
    )


def _needs_table(metrics: Metrics) -> Table:
    rows = []
    for reading in metrics["readings"]:
        users = reading["users_for"]
        rows.append(
            (
                _text(reading["names"], reading["refresh"], reading["among"]),
                Measured(reading["reach"], unit="rate"),
                _share(reading["visible_from"]),
                *(_count(users.get(share)) for share in ("0.05", "0.1", "0.25")),
            )
        )
    return Table(
        key="ceiling-needs",
        title="What it takes to see it",
        caption=(
            "Reach: exposures whose category an oracle names that is always right. Shows from: the "
            "least share of right names whose gain this log can show. Users: how many would show "
            "a text that is right so often, as intervals shrink with the root of their number."
        ),
        columns=("Text", "Reach", "Shows from", "Users, 5 %", "Users, 10 %", "Users, 25 %"),
        rows=tuple(rows),
    )


def _groups_table(metrics: Metrics) -> Table:
    rows = []
    for (refresh, among, names), curve in curves(metrics["points"]).items():
        groups: Mapping[str, Any] = curve[-1]["groups"]
        cells: list[Cell] = [
            figure_cell(groups.get(group, {}), measure, "fine")
            for group, measure in (
                ("long_tail", "click_auc"),
                ("cold_items", "click_auc"),
                ("all", "click_gauc"),
                ("all", "ctcvr_auc"),
                ("all", "ctcvr_gauc"),
            )
        ]
        rows.append((_text(names, refresh, among), *cells))
    return Table(
        key="ceiling-groups",
        title="An oracle that is always right, by group and measure",
        caption="Cold items: shown too seldom in training to be known by their id.",
        columns=(
            "Text",
            "Long tail, click AUC",
            "Cold items, click AUC",
            "Click GAUC",
            "CTCVR AUC",
            "CTCVR GAUC",
        ),
        rows=tuple(rows),
    )


def _log_table(metrics: Metrics) -> Table:
    rows = [
        (
            f"{one['list']}, {_text(one['names'], one['refresh'])}",
            Measured(one["right"]),
            Measured(one["reach"], unit="rate"),
            figure_cell(one["groups"][GROUP], MEASURE, "fine"),
        )
        for one in metrics["log"]
    ]
    return Table(
        key="ceiling-log",
        title="What the log alone names",
        caption=(
            "No model that reads nothing but the log can be expected to bring more than these: "
            "they are often right, of what the ranking model knows already."
        ),
        columns=("List", "Comes true", "Reach", "Gain in click AUC"),
        rows=tuple(rows),
    )


def _share(value: float | None) -> Cell:
    return "never" if value is None else Measured(value)


def _count(value: int | None) -> str:
    return NOT_APPLICABLE if value is None else f"{value:,}"


def surplus_tables(metrics: Metrics) -> tuple[Table, ...]:
    """What each model's texts add, and the same texts dealt out among the users."""
    return (
        Table(
            key="surplus",
            title="Surplus: what the texts know beyond the ranking model's inputs",
            caption=(
                f"On the frozen stack of the ceiling, over exposures whose user has a text by then"
                f"{_served(metrics)}. Nats: log-likelihood a thousand impressions. Equals: the "
                "accuracy of an oracle that writes for everybody and gains as much over all, with "
                "its interval. Shuffled: the same texts dealt out among the users; they know "
                "nothing."
            ),
            columns=("Texts", "Click AUC", "Click GAUC", "CTCVR AUC", "Nats, clicks", "Equals"),
            rows=tuple(_surplus_rows(metrics)),
        ),
    )


def _served(metrics: Metrics) -> str:
    shares = [found["served"] for found in metrics["texts"].values() if "served" in found]
    return f", {percent(max(shares))} of all" if shares else ""


def _surplus_rows(metrics: Metrics) -> Iterator[tuple[Cell, ...]]:
    for name, found in metrics["texts"].items():
        for view, figures in found["views"].items():
            served, nats = figures["groups"].get(SERVED, {}), figures["nats_a_thousand"]
            yield (
                f"{name.replace(':', ', ')}, {_VIEWS[view]}",
                *(
                    figure_cell(served, measure, "fine")
                    for measure in ("click_auc", "click_gauc", "ctcvr_auc")
                ),
                figure_cell(nats, "click", "fine"),
                figure_cell({"equal": figures["equivalent_accuracy"]}, "equal", "share"),
            )
