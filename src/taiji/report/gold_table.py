"""The table that tells whether the reward is gamed."""

from collections.abc import Mapping

from taiji.evaluation.gold import ALARM, JUDGES
from taiji.report.cells import NOT_APPLICABLE, NOT_RUN, Cell, Metrics, Table, figure_cell


def gold_table(metrics: Metrics, titles: Mapping[str, str], goal: str) -> Table:
    """Both judges of `goal` (CTR or CTCVR) beside each other, or why there is but one."""
    judge = (metrics.get("reward_ranker") or {}).get("gold") or {}
    gold = metrics.get("gold")
    rows: list[tuple[Cell, ...]] = [("Policy after alignment", NOT_RUN, NOT_RUN, NOT_RUN)]
    if gold is not None:
        names = [change["over"] for change in gold["changes"][:1]]
        names += [change["of"] for change in gold["changes"]]
        rows = [
            (titles[name], *_cells(gold["writers"][name]), NOT_APPLICABLE)
            for name in names or gold["writers"]
        ]
        rows += [
            (
                f"{titles[change['of']]} – {titles[change['over']]}",
                *_cells(change),
                change["verdict"],
            )
            for change in gold["changes"]
        ]
    return Table(
        key="gold",
        title=f"Is the reward gamed? Mean {goal} of the answers under two judges",
        caption=_caption(gold, judge, titles, goal),
        columns=("Answer by", *JUDGES.values(), "Verdict"),
        rows=tuple(rows),
    )


def _caption(gold: Metrics | None, judge: Metrics, titles: Mapping[str, str], goal: str) -> str:
    if gold is None:
        why = judge.get("why", "not judged: this run has no gold judge")
        return f"{why[0].upper()}{why[1:]}"
    alarms = [
        f"{titles[change['of']]} earns more than {titles[change['over']].lower()} from the ranking "
        "model that alignment optimised, and less from the gold judge: the reward is being gamed."
        for change in gold["changes"]
        if change["verdict"] == ALARM
    ]
    task = "click" if goal == "CTR" else "ctcvr"
    known = {"AUC": f"{task}_auc", "GAUC": f"{task}_gauc"}
    quality = ", ".join(f"{n} {judge[key]:.3f}" for n, key in known.items() if key in judge)
    return " ".join(
        [
            *(f"ALARM: {alarm}" for alarm in alarms),
            "The gold judge is LightGBM, trained on the held-out users' exposures before the test "
            "window; nothing optimises it.",
            f"On the other users in the weeks of alignment its {goal} has {quality}."
            if quality
            else "",
            "An answer that names no item counts as 0. The levels of two judges need not agree; "
            "their changes should.",
        ]
    )


def _cells(figures: Metrics) -> list[Cell]:
    return [figure_cell(figures, name, "rate") for name in JUDGES]
