"""Turns judgements into the figures of the tables, each with an interval over users."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taiji.arrays import Array
from taiji.evaluation.metrics import (
    Interval,
    Statistic,
    bootstrap_difference,
    bootstrap_interval,
    mean_statistic,
)

Figures = dict[str, dict[str, float]]

_MEANS = (
    "think_tag_presence",
    "think_non_empty",
    "answer_non_empty",
    "category_l1",
    "category_l2",
    "category_l3",
    "title_exact",
    "semantic",
    "ctcvr",
)


def writer_figures(
    judgements: pa.Table, *, hit_rate_at: Sequence[int], resamples: int, seed: int
) -> Figures:
    """Each measure of one writer, or of one list, on one track as value, low and high.

    Args:
        judgements: Rows of `JUDGEMENTS` or `LISTINGS`.
        hit_rate_at: K of the hit rates.
        resamples: Of users.
        seed: Of the resampling.

    A measure that is not defined anywhere (tags of an answer that no model wrote) is left out.
    """
    users = judgements["user_id"].to_pylist()
    statistics = _statistics(judgements, hit_rate_at)
    return _defined(
        {
            name: bootstrap_interval(statistic, users, resamples=resamples, seed=seed)
            for name, statistic in statistics.items()
        }
    )


def paired_figures(
    treatment: pa.Table,
    control: pa.Table,
    *,
    hit_rate_at: Sequence[int],
    resamples: int,
    seed: int,
) -> Figures:
    """Treatment minus control of each measure, both judged on the same examples.

    Raises:
        ValueError: The examples differ, so nothing is paired.
    """
    if not treatment["example_id"].equals(control["example_id"]):
        raise ValueError("treatment and control hold different examples")
    users = treatment["user_id"].to_pylist()
    ours, theirs = (_statistics(table, hit_rate_at) for table in (treatment, control))
    return _defined(
        {
            name: bootstrap_difference(
                statistic, theirs[name], users, resamples=resamples, seed=seed
            )
            for name, statistic in ours.items()
        }
    )


def macro_statistic(hits_N: Array, classes_N: Sequence[str | None]) -> Statistic:
    """Mean over true classes of the hit rate inside the class, as a function of row weights."""
    known = ~np.isnan(hits_N)
    names = np.array([str(name) for name in classes_N], dtype=str)[known]
    distinct, which = np.unique(names, return_inverse=True)

    def statistic(weights_N: Array) -> float:
        weights = weights_N[known]
        weight_C = np.bincount(which, weights=weights, minlength=distinct.size)
        hit_C = np.bincount(which, weights=weights * hits_N[known], minlength=distinct.size)
        present = weight_C > 0
        return float((hit_C[present] / weight_C[present]).mean()) if present.any() else np.nan

    return statistic


def _statistics(judgements: pa.Table, hit_rate_at: Sequence[int]) -> dict[str, Statistic]:
    known = set(judgements.column_names)
    values = {name: _floats(judgements[name]) for name in _MEANS if name in known}
    ranks = judgements["title_rank"].to_numpy()
    values |= {f"title_hit_rate_at_{k}": (ranks <= k).astype(float) for k in hit_rate_at}
    if "grounded_item_id" in known:
        values["grounded"] = pc.is_valid(judgements["grounded_item_id"]).to_numpy().astype(float)
    statistics = {name: mean_statistic(column) for name, column in values.items()}
    classes = judgements["true_l1"].to_pylist()
    statistics["category_l1_macro"] = macro_statistic(values["category_l1"], classes)
    return statistics


def _defined(intervals: Mapping[str, Interval]) -> Figures:
    return {
        name: asdict(interval)
        for name, interval in intervals.items()
        if np.isfinite([interval.value, interval.low, interval.high]).all()
    }


def _floats(column: pa.ChunkedArray) -> Array:
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
