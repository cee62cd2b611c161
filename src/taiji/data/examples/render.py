"""From the figures of an example to its text: profile and history lines.

`render_examples` is a pure function of Arrow batches, for DuckDB's batches and Spark's
`mapInArrow` alike. What runs for every history line runs in Arrow: an item's text is looked up,
and a price, a kind or an age is spelled out once for each distinct value of a batch.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from taiji.data.examples.text import (
    Habits,
    Wording,
    age_text,
    kind_text,
    note_text,
    price_text,
    profile_text,
)
from taiji.data.item_text import SEPARATOR, item_texts
from taiji.errors import DataError
from taiji.schema import EXAMPLES, HISTORY_ITEM

logger = logging.getLogger(__name__)

_MINUTE = 60_000_000  # microseconds
_FIGURES = (
    "top_categories", "low_price", "high_price", "brands", "private_label_share", "shopping_time",
)  # fmt: skip


@dataclass(frozen=True)
class RenderSettings:
    """What `render_examples` needs to know. Small, frozen and picklable.

    Attributes:
        words: From `text.wording`.
        long_tail: Fewer interactions than this before the cut-off make an example long-tail.
        offers: Categories on offer by the cut-off's microseconds; None if prompts tell of none.
    """

    words: Wording
    long_tail: int
    offers: Mapping[int, Sequence[str]] | None = None


@dataclass(frozen=True)
class ItemTexts:
    """The text of every item: `texts[i]` is that of `item_ids[i]`. Picklable."""

    item_ids: pa.Array
    texts: pa.Array


def build_item_texts(items: pa.Table) -> ItemTexts:
    """The texts of an items table whose names have been cut."""
    texts = pa.array(item_texts(items), pa.string())
    return ItemTexts(items["item_id"].combine_chunks(), texts)


def render_examples(
    batch: pa.RecordBatch, items: ItemTexts, settings: RenderSettings
) -> pa.RecordBatch:
    """Turn figures into examples, row by row in the same order.

    Args:
        batch: Columns of `schema.FIGURES` in any order. Needed here: `cutoff` (timestamp in
            microseconds, UTC or plain), `fields` (map of strings), `history` (list of structs
            with `item_id`, `ts` of the cut-off's type, `kind`, `price`, `note`, newest first),
            `events` (list of structs with `modality` and `value`, newest first),
            `history_length`, `top_categories`, `low_price`, `high_price`,
            `brands`, `private_label_share` and `shopping_time`. A null list or map counts as
            empty. Other columns of EXAMPLES pass through.
        items: Texts of all items that histories name.
        settings: The wording.

    Returns:
        The same examples in the columns of `schema.EXAMPLES`.

    Raises:
        DataError: A history names an item that is not among them, or holds an
            interaction at or after the cut-off.
    """
    written = {
        "profile": pa.array(_profiles(batch, settings.words), pa.string()),
        "history": _histories(batch, items, settings.words),
        "long_tail": pc.less(pc.fill_null(batch["history_length"], 0), settings.long_tail),
    }
    if settings.offers is None:
        written["offer"] = pa.nulls(batch.num_rows, EXAMPLES.field("offer").type)
    else:
        moments = batch["cutoff"].cast(pa.timestamp("us")).cast(pa.int64()).to_pylist()
        offers = [settings.offers[moment] for moment in moments]
        written["offer"] = pa.array(offers, EXAMPLES.field("offer").type)
    columns = [
        written[column.name] if column.name in written else batch[column.name].cast(column.type)
        for column in EXAMPLES
    ]
    return pa.RecordBatch.from_arrays(columns, schema=EXAMPLES)


def _profiles(batch: pa.RecordBatch, words: Wording) -> list[str]:
    figures = {name: batch[name].to_pylist() for name in _FIGURES}
    fields, events = batch["fields"].to_pylist(), _events(batch["events"])
    return [
        profile_text(
            dict(fields[row] or ()),
            _habits({name: column[row] for name, column in figures.items()}, events[row]),
            words,
        )
        for row in range(batch.num_rows)
    ]


def _habits(figures: Mapping[str, Any], events: Mapping[str, Sequence[str]]) -> Habits:
    low, high = figures["low_price"], figures["high_price"]
    is_told = low is not None and high is not None and 0 <= low <= high < math.inf
    return Habits(
        top_categories=[name for name in figures["top_categories"] or () if name],
        price_band=(low, high) if is_told else None,
        brands=[name for name in figures["brands"] or () if name],
        private_label_share=figures["private_label_share"],
        shopping_time=figures["shopping_time"],
        events=events,
    )


def _events(column: pa.ListArray) -> list[dict[str, list[str]]]:
    """The values of each row by modality, modalities by name."""
    flat = column.flatten()
    modalities = pc.struct_field(flat, "modality").to_pylist()
    values = pc.struct_field(flat, "value").to_pylist()
    rows: list[dict[str, list[str]]] = []
    start = 0
    for length in pc.fill_null(pc.list_value_length(column), 0).to_pylist():
        row: dict[str, list[str]] = {}
        for modality, value in zip(
            modalities[start : start + length], values[start : start + length], strict=True
        ):
            row.setdefault(modality, []).append(value)
        rows.append({modality: row[modality] for modality in sorted(row)})
        start += length
    return rows


def _histories(batch: pa.RecordBatch, items: ItemTexts, words: Wording) -> pa.ListArray:
    """The history column of EXAMPLES: what the batch has, and the line of each interaction."""
    column = batch["history"]
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
    lines = column.flatten()
    cutoffs = batch["cutoff"].take(pc.list_parent_indices(column))
    parts = {name: pc.struct_field(lines, name) for name in lines.type.names}
    parts["text"] = pc.binary_join_element_wise(
        _items(parts["item_id"], items),
        _notes(parts["note"], words),
        _prices(parts["price"], words),
        _kinds(parts["kind"], words),
        _ages(parts["ts"], cutoffs, words),
        SEPARATOR,
        null_handling="skip",
    )
    columns = [parts[part.name].cast(part.type) for part in HISTORY_ITEM]
    told = pa.StructArray.from_arrays(columns, fields=list(HISTORY_ITEM))
    return pa.ListArray.from_arrays(offsets.cast(pa.int32()), told)


def _items(item_ids: pa.Array, items: ItemTexts) -> pa.Array:
    encoded = item_ids.dictionary_encode()
    places = pc.index_in(encoded.dictionary, value_set=items.item_ids)
    if places.null_count:
        lost = encoded.dictionary.filter(pc.is_null(places))
        raise DataError(
            f"examples: {len(lost)} items of histories are not in the items table, e.g. "
            f"{lost[0].as_py()!r}: leave their interactions out"
        )
    return items.texts.take(places.take(encoded.indices))


def _notes(notes: pa.Array, words: Wording) -> pa.Array:
    told = pc.if_else(pc.equal(pc.utf8_trim_whitespace(notes), ""), None, notes)
    return _spell(told, lambda note: note_text(note, words))


def _prices(prices: pa.Array, words: Wording) -> pa.Array:
    """Null for a price that cannot be one: below zero or not finite."""
    usable = pc.and_(pc.is_finite(prices), pc.greater_equal(prices, 0))
    num_unusable = len(prices) - prices.null_count - (pc.sum(usable).as_py() or 0)
    if num_unusable:
        logger.warning(
            "history: %d of %d prices are negative or not finite and are not told",
            num_unusable,
            len(prices),
        )
    return _spell(pc.if_else(usable, prices, None), lambda price: price_text(price, words))


def _kinds(kinds: pa.Array, words: Wording) -> pa.Array:
    said = pc.if_else(pc.equal(kinds, words.unsaid_kind), None, kinds)
    return _spell(said, lambda kind: kind_text(kind, words))


def _ages(times: pa.Array, cutoffs: pa.Array, words: Wording) -> pa.Array:
    before = pc.subtract(cutoffs.cast(pa.int64()), times.cast(pa.int64()))
    if len(before) and pc.min(before).as_py() <= 0:
        raise DataError(
            "examples: a history holds an interaction at or after the cut-off: "
            "this would leak the target"
        )
    told = pc.divide(before, _MINUTE)
    # Beyond an hour only whole hours are told, beyond a day whole days: so few values are distinct.
    for unit in (60, 24 * 60):
        told = pc.if_else(pc.less(told, unit), told, pc.multiply(pc.divide(told, unit), unit))
    return _spell(told, lambda minutes: age_text(minutes, words))


def _spell(values: pa.Array, say: Callable[[Any], str]) -> pa.Array:
    """Say each distinct value once; null stays null."""
    encoded = values.dictionary_encode()
    said = [say(value) for value in encoded.dictionary.to_pylist()]
    return pa.array(said, pa.string()).take(encoded.indices)
