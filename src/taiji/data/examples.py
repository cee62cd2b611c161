"""Examples: a user, a moment, what was known strictly before it, and what came next.

A basket has one time, so its lines are a set and the target is one of them, chosen by a hash
that sees ids only. The cut-off is the basket's time; profile and history hold nothing at or
after it. `draw_examples` says what was left out and why.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any

import duckdb
import pyarrow as pa

from taiji.artifacts import conform
from taiji.config import DataSection
from taiji.data import examples_sql as sql
from taiji.data.splits import hash_sql
from taiji.data.tables import Counts, Tables, without_zone
from taiji.data.text import Habits, history_line, item_text, profile_text
from taiji.schema import EXAMPLES

MIN_HISTORY = 10
"""A basket with fewer interactions before it becomes no target: there is little to reason on."""

LONG_TAIL = 100
"""Fewer interactions than this before the cut-off make an example long-tail.

A fixed figure rather than a quantile of the log: it means the same in every window, and 418 of
2,469 households stay below it for the whole year.
"""

_ORDER = ("sft", "rl", "test", "rank_train", "rank_test")


def build_examples(tables: Tables, section: DataSection, seed: int) -> pa.Table:
    """Return the examples of every split in the columns of `schema.EXAMPLES`.

    `sft`, `rl` and `test` hold at most one basket per user and week, with at least
    `MIN_HISTORY` interactions before it, different users first; held-out users appear in
    `test` alone. With `section.target` "novel" the first two take baskets with a title that is
    new to the user, and that title is the target. `rank_train` and `rank_test` ask about the
    same users at the start of weeks 39 and 47 and have no target.
    """
    return draw_examples(tables, section, seed)[0]


def draw_examples(
    tables: Tables, section: DataSection, seed: int
) -> tuple[pa.Table, dict[str, Counts]]:
    """Return the examples, and for each split with targets how its baskets were judged."""
    with duckdb.connect() as db:
        db.register("interactions", without_zone(tables.interactions))
        db.register("items", tables.items)
        db.register("users", tables.users)
        settings = _settings(section, seed)
        db.execute(sql.CANDIDATES.format(**settings))
        db.execute(sql.ASKS.format(**settings))
        db.execute(sql.PAST)
        asks = db.sql(sql.HABITS).to_arrow_table().to_pylist()
        lines = db.sql(sql.HISTORIES.format(**settings)).to_arrow_table().to_pylist()
        verdicts = db.execute(sql.FUNNEL).fetchall()
    examples = _render(asks, lines, tables.items)
    return examples, _funnel(verdicts, asks)


def _settings(section: DataSection, seed: int) -> dict[str, object]:
    sizes = {"sft": section.num_sft, "rl": section.num_rl, "test": section.num_test}
    return {
        "line_hash": hash_sql(f"line-{seed}", "user_id", "order_id", "item_id"),
        "order_hash": hash_sql(f"order-{seed}", "user_id", "order_id"),
        "user_hash": hash_sql(f"user-{seed}", "user_id"),
        "needs_novel": str(section.target == "novel").lower(),
        "min_history": MIN_HISTORY,
        "history_items": section.history_items,
        "num_rank_users": section.num_rank_users,
        "split_sizes": " ".join(f"WHEN '{split}' THEN {n}" for split, n in sizes.items()),
    }


def _render(
    asks: Iterable[Mapping[str, Any]], lines: Iterable[Mapping[str, Any]], items: pa.Table
) -> pa.Table:
    """Turn figures into text, one row an example."""
    texts = {
        row["item_id"]: item_text(
            row["title"], row["category_l1"], row["category_l2"], row["category_l3"]
        )
        for row in items.to_pylist()
    }
    histories = defaultdict(list)
    for line in lines:
        histories[line["example_id"]].append(line)
    rows = [_example(ask, histories[ask["example_id"]], texts) for ask in asks]
    rows.sort(key=lambda row: _ORDER.index(row["split"]))
    return conform(pa.Table.from_pylist(rows, schema=EXAMPLES), EXAMPLES, where="examples")


def _example(
    ask: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], texts: Mapping[str, str]
) -> dict[str, Any]:
    cutoff = ask["cutoff"]
    history = [
        {
            "item_id": line["item_id"],
            "ts": line["ts"].replace(tzinfo=UTC),
            "price": line["price"],
            "text": history_line(texts[line["item_id"]], line["price"], cutoff - line["ts"]),
        }
        for line in lines
    ]
    num_before = ask["history_length"] or 0
    return {
        "example_id": ask["example_id"],
        "user_id": ask["user_id"],
        "split": ask["split"],
        "cutoff": cutoff.replace(tzinfo=UTC),
        "profile": profile_text(ask, _habits(ask)),
        "history": history,
        "history_length": num_before,
        "long_tail": num_before < LONG_TAIL,
        "holdout": ask["holdout"],
        "target_item_id": ask["target_item_id"],
        "novel_target_item_id": ask["novel_target_item_id"],
        "basket_item_ids": ask["basket_item_ids"],
    }


def _habits(ask: Mapping[str, Any]) -> Habits:
    low, high = ask["low_price"], ask["high_price"]
    return Habits(
        top_categories=tuple(ask["top_categories"] or ()),
        price_band=None if low is None else (low, high),
        private_label_share=ask["private_label_share"],
        shopping_time=ask["shopping_time"],
    )


def _funnel(
    verdicts: Iterable[tuple[str, str, int]], asks: Iterable[Mapping[str, Any]]
) -> dict[str, Counts]:
    """Split what was usable into what was drawn and what the recipe did not ask for."""
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for split, verdict, number in verdicts:
        counts[split][verdict] = number
    drawn: dict[str, int] = defaultdict(int)
    for ask in asks:
        drawn[ask["split"]] += 1
    for split in counts:
        counts[split]["drawn"] = drawn[split]
        counts[split]["beyond the number asked for"] = counts[split].pop("usable", 0) - drawn[split]
    return {split: counts[split] for split in sorted(counts)}
