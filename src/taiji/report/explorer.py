"""What the script of a page explores: every chain's perplexity, and rollouts to look through.

Numbers of all chains travel as little-endian float64, exact to the last bit, so that the slider
counts as Python does. Texts are bounded: a page of 100,000 chains must open as fast as one of 100.
"""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taiji.report.run_files import ReportData

MAX_CHAINS = 600
MAX_ROLLOUTS = 1500
_MAX_LETTERS = 700
ROLLOUT_COLUMNS = (
    *("step", "user", "answer", "target", "semantic", "preference", "format", "rung", "status"),
    "completion",
)

Row = Mapping[str, Any]


def page_data(data: ReportData) -> dict[str, Any]:
    """All that the script of a report reads; a part is absent where there is nothing to explore."""
    found: dict[str, Any] = {}
    if (chains := chains_data(data)) is not None:
        found["chains"] = chains
    if data.rollouts is not None and data.rollouts.num_rows:
        rows = spread(data.rollouts, MAX_ROLLOUTS)
        found["rollouts"] = {
            "columns": ROLLOUT_COLUMNS,
            "total": data.rollouts.num_rows,
            "rows": rollout_rows(rows, data.examples, data.items),
        }
    return found


def chains_data(data: ReportData) -> dict[str, Any] | None:
    """What the slider needs; None unless a limit on the perplexity decided.

    `may` marks chains that no other guard rejects: with another R, a chain is kept if it may be
    and its perplexity lies strictly below.
    """
    scored, limit = data.scored, data.threshold
    if scored is None or limit is None or limit.get("filter", "ppl") != "ppl":
        return None
    if limit["threshold"] is None:
        return None
    ppl_N = pc.fill_null(scored["perplexity"], float("nan")).to_numpy().astype("<f8")
    may_N = may_be_kept(scored)
    return {
        "limit": limit["threshold"],
        "perplexity": base64.b64encode(ppl_N.tobytes()).decode(),
        "may": base64.b64encode(may_N.astype(np.uint8).tobytes()).decode(),
        "texts": _chain_texts(scored, ppl_N, may_N, float(limit["threshold"]), data),
    }


def may_be_kept(scored: pa.Table) -> Any:
    """Whether only the perplexity stands between a chain and being kept."""
    reasons = pa.array(["kept", "perplexity"], pa.string())
    return pc.is_in(scored["reason"], value_set=reasons).to_numpy().astype(bool)


def _chain_texts(
    scored: pa.Table, ppl_N: Any, may_N: Any, limit: float, data: ReportData
) -> list[list[Any]]:
    """Texts of the chains nearest to R on both sides: they are the first that another R moves."""
    known = np.flatnonzero(may_N & np.isfinite(ppl_N))
    nearest = known[np.argsort(np.abs(np.log(ppl_N[known]) - np.log(limit)), kind="stable")]
    chosen = np.sort(nearest[:MAX_CHAINS])
    part = scored.take(pa.array(chosen))
    told = _told(part, data.examples, data.items)
    texts = part["cot"].to_pylist()
    return [
        [int(row), user, target, text[:_MAX_LETTERS]]
        for row, (user, target), text in zip(chosen, told, texts, strict=True)
    ]


def rollout_rows(
    rollouts: pa.Table, examples: pa.Table | None, items: pa.Table | None
) -> list[list[Any]]:
    """Rows in the order of `ROLLOUT_COLUMNS`; ids of examples stay out, they name users."""
    told = _told(rollouts, examples, items)
    columns = [
        rollouts[name].to_pylist()
        for name in ("step", "answer", "semantic", "preference", "format", "rung", "status")
    ]
    texts = [text[:_MAX_LETTERS] for text in rollouts["completion"].to_pylist()]
    return [
        [step, user, answer, target, *rest, text]
        for (step, answer, *rest), (user, target), text in zip(
            zip(*columns, strict=True), told, texts, strict=True
        )
    ]


def spread(rollouts: pa.Table, most: int) -> pa.Table:
    """At most so many rows, evenly over the whole of the training, in its order."""
    if rollouts.num_rows <= most:
        return rollouts
    places = np.linspace(0, rollouts.num_rows - 1, most).astype(np.int64)
    return rollouts.take(pa.array(places))


def _told(
    rows: pa.Table, examples: pa.Table | None, items: pa.Table | None
) -> list[tuple[str, str]]:
    """Whose moment each row is, and which title was bought next."""
    if examples is None or items is None:
        return [("?", "?")] * rows.num_rows
    place = pc.index_in(rows["example_id"], value_set=examples["example_id"].combine_chunks())
    users = examples["user_id"].take(place)
    target = examples["target_item_id"].take(place)
    titles = items["title"].take(pc.index_in(target, value_set=items["item_id"].combine_chunks()))
    unknown = pc.fill_null(users, "?").to_pylist(), pc.fill_null(titles, "?").to_pylist()
    return list(zip(*unknown, strict=True))
