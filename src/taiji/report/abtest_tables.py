"""Tables of the simulated A/B test, in the shape of the paper's Table 2; each says simulation."""

from collections.abc import Mapping
from typing import Any

from taiji.abtest.experiment import AA, OVERRATED
from taiji.abtest.statistics import POWER, TARGET_LIFT
from taiji.report.cells import NOT_APPLICABLE, Cell, Measured, Metrics, Table, Unit, figure_cell

_ARMS = {
    "intra": "+ intra-user codes",
    "cross": "+ cross-user sequence",
    "both": "+ both",
    "match": "+ match of text and item (ours)",
    "interaction": "Interaction of both",
    AA: "A/A: base again",
}
_MEASURES = {"revenue": "Revenue", "advv": "ADVV", "expected_advv": "Expected ADVV"}
_COLUMNS = {
    ("all", "revenue"): "Revenue",
    ("all", "advv"): "ADVV",
    ("all", "expected_advv"): "Expected ADVV",
    ("long_tail", "revenue"): "Revenue, long tail",
    ("long_tail", "advv"): "ADVV, long tail",
}
_CONTROLS = {
    "reseeded": "Base, another seed",
    "permuted": "Predictions permuted between arms",
    "overrated_steered": f"Predictions x {OVERRATED:g}, cost control",
    "overrated_unsteered": f"Predictions x {OVERRATED:g}, no cost control",
    "truth": "Predictions are the truth",
}
_ESTIMATORS = {
    "mean": "mean by user",
    "cuped": "mean by user, CUPED",
    "per_request": "per request",
    "bootstrap": "mean by user, bootstrap",
}
ASSUMPTIONS = (
    "no live user saw anything: a model of users answers, fitted on the exposures of the test "
    "window, as good as those are",
    "one slot a request; candidates are the advertisements of the week, each as likely",
    "advertisers are brands within a category and bid a share of their mean price, times a draw",
    "ADVV is our reading: the sum of tCPA over conversions; the paper gives no formula",
    "cost control and pacing see expected conversions, as a platform with very many would",
    "nobody changes a bid, a budget or a habit because of an arm",
    "intervals are over users; that a model trained again differs is the row of the other seed",
)


def abtest_tables(figures: Metrics | None) -> tuple[Table, ...]:
    """What was simulated, or nothing where it was not."""
    if not figures:
        return ()
    return (
        _counterfactual_table(figures),
        _bucket_table(figures),
        _control_table(figures),
        _power_table(figures),
    )


def _counterfactual_table(figures: Metrics) -> Table:
    users, market = figures["users"], figures["market"]
    return Table(
        key="abtest",
        title="Simulation of Table 2: lift over the base, the same users under every arm",
        caption=(
            f"Simulation, {figures['worlds']} worlds: {figures['requests']['measured']:,} requests "
            f"of {users['all']:,} users ({users['long_tail']:,} long-tail), "
            f"{figures['candidates']} candidates each, {figures['advertisers']} advertisers; the "
            f"base pays {market['cost_ratio']['base']:.2f} of the target a conversion. Paired by "
            "user, with common random numbers; 95 % intervals over users. The interaction is what "
            f"both have beyond the sum of the two. It assumes: {'; '.join(ASSUMPTIONS)}."
        ),
        columns=("Arm", *_COLUMNS.values()),
        rows=_rows(figures["counterfactual"], _ARMS),
    )


def _bucket_table(figures: Metrics) -> Table:
    ratios = figures["sample_ratio"].values()
    users = figures["bucket_users"].values()
    checked = [
        measure["covers_counterfactual"]
        for row in figures["buckets"]["all"].values()
        for measure in row.values()
    ]
    return Table(
        key="abtest-buckets",
        title="Simulation of Table 2: the paper's protocol, disjoint buckets of users",
        caption=(
            f"Simulation: buckets of {100 * figures['bucket_share']:g} % of users "
            f"({min(users):,} to {max(users):,}), budgets split alike, CUPED by what the base "
            f"brought in the warm-up. {sum(checked)} of {len(checked)} intervals over all users "
            "cover the counterfactual above. Smallest p-value of a sample-ratio mismatch: "
            f"{min(ratios):.3f}."
        ),
        columns=("Arm", *_COLUMNS.values()),
        rows=_rows(figures["buckets"], _ARMS),
    )


def _rows(groups: Metrics, titles: Mapping[str, str]) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        (title, *(_lift(groups[group][row], measure) for group, measure in _COLUMNS))
        for row, title in titles.items()
        if row in groups["all"]
    )


def _control_table(figures: Metrics) -> Table:
    return Table(
        key="abtest-controls",
        title="Simulation: controls, the same users under both arms",
        caption=(
            "Simulation, as in the first table; each row compares two runs that differ in what it "
            "names. Another seed shows how far a model differs from itself: a lift above that is "
            "no larger is none. Permuted predictions and, under cost control, predictions of "
            f"{OVERRATED:g} times as much must show nothing; without it they bring Revenue and no "
            "ADVV, which is why there is control. The truth is the most that there is to win."
        ),
        columns=("Control", *_COLUMNS.values()),
        rows=_rows(figures["controls"], _CONTROLS),
    )


def _power_table(figures: Metrics) -> Table:
    estimators = figures["estimators"]
    rows = tuple(
        (
            f"{title}, {how}",
            _lift(estimators["measures"][measure], estimator),
            *_power(estimators["measures"][measure][estimator]),
        )
        for measure, title in _MEASURES.items()
        for estimator, how in _ESTIMATORS.items()
    )
    return Table(
        key="abtest-power",
        title="Simulation: what buckets of this size can see",
        caption=(
            f"Simulation of the arm `{estimators['arm']}` in its bucket. A two-sided test at 5 % "
            f"finds the smallest lift with a probability of {100 * POWER:g} %."
        ),
        columns=(
            "Estimate",
            "Lift",
            "Smallest lift",
            f"Users an arm for {100 * TARGET_LIFT:g} %",
        ),
        rows=rows,
    )


def _lift(figures: Metrics, key: str, unit: Unit = "rate") -> Cell:
    return figure_cell(figures, key, unit)


def _power(figure: Mapping[str, Any]) -> tuple[Cell, Cell]:
    if figure.get("smallest_lift") is None:
        return NOT_APPLICABLE, NOT_APPLICABLE
    return (
        Measured(figure["smallest_lift"], unit="rate"),
        f"{figure['users_per_arm']:,.0f}",
    )
