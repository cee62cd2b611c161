"""What the report says about rewards: how they moved, which decided, whether they were gamed."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from taiji.alignment.rewards.grounding import RUNGS
from taiji.alignment.rewards.hacking import answer_shares
from taiji.report import charts

Row = Mapping[str, Any]

_FORM = {"think": "tags", "chain": "chain", "answer": "one answer", "levels": "levels"}
_NUM_TOP_ANSWERS = 10
_PART = 3  # the report compares the first and the last third of the steps


def reward_names(steps: Sequence[Row]) -> list[str]:
    """The rewards that were paid, in the order of the metrics."""
    found = dict.fromkeys(key for row in steps for key in row if key.startswith("w_"))
    ours = ("semantic", "preference", "format")
    names = [key.removeprefix("w_") for key in found]
    return sorted(names, key=lambda name: (ours.index(name) if name in ours else len(ours), name))


_LEAST_RANGE = {"weights": 0.1, "flat": 0.1, "clip": 0.01}
"""A weight that went from .500 to .504 has hardly moved, and is drawn so."""


def reward_charts(steps: Sequence[Row]) -> dict[str, str]:
    """Every chart over steps for which metrics.jsonl has a column, by name."""
    names = reward_names(steps)
    steps = [_with_mixed_shares(row, names) for row in steps]
    drawn = {}
    for chart, (title, columns) in _columns(steps, names).items():
        seen = {column: series for column, series in columns.items() if _in(column, steps)}
        if seen:
            least = _LEAST_RANGE.get(chart, 0.0)
            drawn[chart] = charts.lines_chart(steps, seen, title, chart, least)
    return drawn


def top_answers(rollouts: pa.Table, items: pa.Table | None) -> list[dict[str, Any]]:
    """The items answered most in the last third of the steps, and how often in the first."""
    titles = (
        {} if items is None else dict(zip(*_columns_of(items, "item_id", "title"), strict=True))
    )
    needed = ["step", "example_id", "grounded_item_id", "preference"]
    rows = rollouts.select(needed).to_pylist()
    steps = sorted({row["step"] for row in rows})
    third = max(1, len(steps) // _PART)
    first, last = (
        [row for row in rows if row["step"] in part]
        for part in (set(steps[:third]), set(steps[-third:]))
    )
    before = dict(answer_shares([row["grounded_item_id"] for row in first]))
    shares = answer_shares([row["grounded_item_id"] for row in last])[:_NUM_TOP_ANSWERS]
    return [
        {
            "title": titles.get(item, item),
            "share": share,
            "first_share": before.get(item, 0.0),
            "users": len({row["example_id"] for row in last if row["grounded_item_id"] == item}),
            "preference": _mean(
                [r["preference"] or 0.0 for r in last if r["grounded_item_id"] == item]
            ),
        }
        for item, share in shares
    ]


def _columns(steps: Sequence[Row], names: Sequence[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """Charts by name: title of the axis, and its columns with what they are called."""
    cosines = sorted({key for row in steps for key in row if key == "cos" or key[:4] == "cos_"})

    def of_each(pattern: str) -> dict[str, str]:
        return {pattern.format(name): name for name in names}

    return {
        "weights": ("weight w", of_each("w_{}")),
        "alignment": ("I (Eq. 6)", of_each("I_{}")),
        "norms": ("gradient norm |g|", of_each("grad_norm_{}")),
        "cosines": ("cosine of gradients", {key: key[4:] or "both rewards" for key in cosines}),
        "means": ("mean reward", of_each("rewards/{}/mean")),
        "deviations": ("deviation within groups", of_each("rewards/{}/group_std")),
        "shares": ("share of the variance", of_each("mixed_share_{}")),
        "flat": ("groups without spread", of_each("rewards/{}/frac_zero_std")),
        "rungs": ("share of answers", {f"rung/{rung}": rung for rung in RUNGS}),
        "form": ("share of completions", {f"format/{key}": name for key, name in _FORM.items()}),
        "popularity": (
            "percentile of items by sales",
            {"hacking/popularity": "answers", "hacking/target_popularity": "true items"},
        ),
        "constant": (
            "mean preference reward",
            {
                "rewards/preference/mean": "policy",
                "hacking/constant_reward": "best constant answer",
            },
        ),
        "kl": ("KL to the SFT model", {"kl": "KL"}),
        "clip": ("share of clipped tokens", {"clip_ratio/region_mean": "clipped"}),
        "length": ("tokens", {"completions/mean_length": "completion"}),
    }


def _with_mixed_shares(row: Row, names: Sequence[str]) -> Row:
    """Each reward's share of the variance within groups, under the weights of the step."""
    parts = {
        name: row[f"w_{name}"] ** 2 * row[f"rewards/{name}/variance_share"]
        for name in names
        if f"w_{name}" in row and f"rewards/{name}/variance_share" in row
    }
    total = sum(parts.values())
    shares = {f"mixed_share_{name}": part / total for name, part in parts.items() if total > 0}
    return {**row, **shares}


def _in(column: str, steps: Sequence[Row]) -> bool:
    return any(row.get(column) is not None for row in steps)


def _columns_of(table: pa.Table, *names: str) -> list[list[Any]]:
    return [table[name].to_pylist() for name in names]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
