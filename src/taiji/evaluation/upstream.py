"""Figures of the stages before judgement: what was written, kept, rewarded."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_TENTHS = 10
_KEEPS_ALL = "quantile 1"
"""R is the largest perplexity: the rule of a run without selection."""


def distill_figures(candidates: pa.Table, mode: str) -> dict[str, Any]:
    """Who wrote, shown the true next item (`rupr`) or not (`direct`), and what came of it."""
    return {
        "mode": mode,
        "teachers": sorted(set(candidates["teacher"].to_pylist())),
        "candidates": candidates.num_rows,
        "statuses": dict(Counter(candidates["status"].to_pylist())),
        "leak_share": _share(pc.is_valid(candidates["leak"])),
    }


def refine_figures(scored: pa.Table, threshold: Mapping[str, Any]) -> dict[str, Any]:
    """What ORFT kept; medians are None where there is nothing to take them of."""
    limit = threshold["threshold"]
    kept = scored.filter(scored["kept"])
    rejected = scored.filter(pc.invert(scored["kept"]))
    return {
        "filter": threshold["filter"],
        "threshold": None if limit is None else float(limit),
        "rule": threshold["rule"],
        "selects": threshold["filter"] != "none" and threshold["rule"] != _KEEPS_ALL,
        "scored": scored.num_rows,
        "kept": kept.num_rows,
        "kept_share": _share(scored["kept"]),
        "reasons": dict(Counter(scored["reason"].to_pylist())),
        "median_perplexity": _median(scored),
        "median_perplexity_kept": _median(kept),
        "median_perplexity_rejected": _median(rejected),
    }


def align_figures(
    rule: str, steps: Sequence[Mapping[str, Any]], rollouts: pa.Table
) -> dict[str, Any] | None:
    """Rewards at the start and the end of alignment, and the weights; None without a step.

    Rewards are means over the first and the last tenth of the steps, because one step's
    rollouts are few.
    """
    if not steps or not rollouts.num_rows:
        return None
    seen = sorted(set(rollouts["step"].to_pylist()))
    part = max(1, len(seen) // _TENTHS)
    return {
        "rule": rule,
        "steps": len(steps),
        "rollouts": rollouts.num_rows,
        "statuses": dict(Counter(rollouts["status"].to_pylist())),
        "rungs": dict(Counter(rollouts["rung"].to_pylist())),
        "first": {**_rewards(rollouts, seen[:part]), **_weights(steps[0])},
        "last": {**_rewards(rollouts, seen[-part:]), **_last_weights(steps)},
    }


def _last_weights(steps: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """A step that takes rollouts again has none."""
    return next((found for step in reversed(steps) if (found := _weights(step))), {})


def _rewards(rollouts: pa.Table, steps: Sequence[int]) -> dict[str, float]:
    part = rollouts.filter(pc.is_in(rollouts["step"], pa.array(steps, rollouts["step"].type)))
    names = (name for name in ("semantic", "preference") if part[name].null_count < part.num_rows)
    return {name: float(pc.mean(part[name]).as_py()) for name in names}


def _weights(step: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(weight) for name, weight in step.items() if name.startswith("w_")}


def _median(scored: pa.Table) -> float | None:
    values = scored["perplexity"].drop_null().to_numpy()
    return float(np.median(values)) if values.size else None


def _share(flags: pa.ChunkedArray) -> float:
    return float(pc.mean(flags.cast(pa.int8())).as_py() or 0.0)
