"""Open-ended rejection sampling: which chains of thought survive (end of section 3.1).

In the paper a chain is kept iff PPL < R, strictly; R is a quantile (there: the median) of the
perplexities of a sample, so between none and all k chains of one prompt survive. The other
filters and thresholds are ours. Pure NumPy.

Shape suffix: N chains.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from taiji.arrays import Array

KEPT = "kept"

Filter = Literal["none", "ppl", "gain", "clipped"]

_COLUMNS = {"ppl": "perplexity", "gain": "gain", "clipped": "clipped"}


@dataclass(frozen=True)
class Rule:
    """How to choose.

    Attributes:
        filter: Which score decides: perplexity and clipped perplexity must lie below R, a gain
            above it; `none` keeps whatever may be kept.
        quantile: Share of sampled scores that pass.
        sample: Scores to draw for it, without replacement.
        seed: Of the draw.
        threshold: A fixed R in place of the quantile.
        top_m: The best m chains of each prompt in place of R; the first of equals.
        drop_leaks: Whether a leak is a reason to reject.
    """

    filter: Filter = "ppl"
    quantile: float = 0.5
    sample: int = 2300
    seed: int = 0
    threshold: float | None = None
    top_m: int | None = None
    drop_leaks: bool = True


@dataclass(frozen=True)
class Selection:
    """What was chosen.

    Attributes:
        reasons: For each chain `kept`, `status: <status>`, `leak: <kind>`, the name of the score
            that did not pass, or `rank`: the first that applies, in this order.
        threshold: R as the filter measures; None where nothing is compared with one.
        rule: Where R comes from, in words.
        sampled: How many scores R is taken from.
    """

    reasons: list[str]
    threshold: float | None
    rule: str
    sampled: int


def select(rows: Sequence[Mapping[str, Any]], rule: Rule) -> Selection:
    """Decide on every chain.

    Args:
        rows: Columns `example_id`, `status`, `leak` and the scores of `schema.SCORED`; the
            chains of one prompt stand together.
        rule: How.

    Raises:
        ValueError: No chain has a score and may be kept.
    """
    barred = [_barred(row, rule.drop_leaks) for row in rows]
    if all(barred):
        raise ValueError("no chain to choose from")
    if rule.filter == "none":
        return Selection([reason or KEPT for reason in barred], None, "none", 0)
    column = _COLUMNS[rule.filter]
    sign = -1.0 if rule.filter == "gain" else 1.0  # from here on, low is good
    costs_N = np.array(
        [np.nan if reason else sign * row[column] for row, reason in zip(rows, barred, strict=True)]
    )
    if rule.top_m is not None:
        passed, failed = _best(rows, costs_N, rule.top_m), "rank"
        limit, words, sampled = None, f"best {rule.top_m} of each prompt", 0
    else:
        cost, words, sampled = _limit(costs_N[~np.isnan(costs_N)], sign, rule)
        passed, failed, limit = costs_N < cost, column, sign * cost
    return Selection(
        [reason or (KEPT if ok else failed) for reason, ok in zip(barred, passed, strict=True)],
        limit,
        words,
        sampled,
    )


def threshold(scores_N: Array, *, quantile: float, sample: int, seed: int) -> float:
    """R: the quantile of at most `sample` scores, drawn without replacement.

    Raises:
        ValueError: There is nothing to draw from.
    """
    if scores_N.size == 0:
        raise ValueError("no scores to take a threshold of")
    drawn = scores_N
    if scores_N.size > sample:
        drawn = np.random.default_rng(seed).choice(scores_N, size=sample, replace=False)
    return float(np.quantile(drawn, quantile))


def _barred(row: Mapping[str, Any], drop_leaks: bool) -> str | None:
    """Why a chain cannot be kept whatever its score."""
    if row["status"] != "ok" or row["perplexity"] is None:
        return f"status: {row['status']}"
    return f"leak: {row['leak']}" if drop_leaks and row["leak"] is not None else None


def _limit(costs_N: Array, sign: float, rule: Rule) -> tuple[float, str, int]:
    if rule.threshold is not None:
        return sign * rule.threshold, "fixed", 0
    cost = threshold(costs_N, quantile=rule.quantile, sample=rule.sample, seed=rule.seed)
    return cost, f"quantile {rule.quantile:g}", min(costs_N.size, rule.sample)


def _best(rows: Sequence[Mapping[str, Any]], costs_N: Array, m: int) -> NDArray[np.bool_]:
    """Whether each chain is among the m cheapest of its prompt; NaN never is."""
    chosen_N = np.zeros(len(rows), dtype=bool)
    for _, group in groupby(range(len(rows)), key=lambda number: rows[number]["example_id"]):
        numbers = [number for number in group if not np.isnan(costs_N[number])]
        chosen_N[sorted(numbers, key=lambda number: costs_N[number])[:m]] = True
    return chosen_N
