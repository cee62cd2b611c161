"""How much likelier a model finds each category on offer behind a user's prompt than for anybody.

`infer` writes it beside the texts, `features` keeps it for the arm `match`. On offer are the
categories that anybody had been shown before the ranking window began; where nothing had been
shown yet, those that had been bought.

Shape suffixes: U texts, C nodes of the tree.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taiji.arrays import Ints, Vectors
from taiji.data.calendar import RANK_SPLITS
from taiji.data.item_text import complete_path
from taiji.errors import DataError
from taiji.lists.likelihood import category_openings
from taiji.ranking.categories import Categories
from taiji.stages.parts.asked_models import AskedModel
from taiji.stages.parts.constructed import Constructed
from taiji.store.files import read_parquet

LIKELIHOODS = pa.schema(
    [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("nodes", pa.list_(pa.int64()), nullable=False),  # of `Categories.from_items`
        # log P(category | prompt, chain) - log P(category | anybody)
        pa.field("excess", pa.list_(pa.float64()), nullable=False),
    ]
)


def category_likelihoods(
    logs: Constructed, texts: pa.Table, models: Mapping[str, AskedModel], *, answers: int
) -> pa.Table:
    """Rows of `LIKELIHOODS` for each text of a ranking user.

    Args:
        logs: What construct wrote.
        texts: Rows of `schema.TEXTS` of the models.
        models: By name.
        answers: How many items the models are asked for.

    Raises:
        DataError: No item has a category.
    """
    categories, examples = Categories.from_items(logs.items), logs.examples(*RANK_SPLITS)
    if not categories.paths:
        raise DataError(
            "infer.likelihoods: no item has a category: map data.source.items.categories, or "
            "leave it out"
        )
    offers = offers_by_split(logs, categories)
    openings = category_openings(_names(logs.items, categories), answers)
    asked = [offers[split] for split in examples["split"].to_pylist()]
    parts = []
    for name, model in models.items():
        own = texts.filter(pc.equal(texts["model"], name))
        rows = pc.index_in(examples["example_id"], value_set=own["example_id"].combine_chunks())
        found = model.likelihoods("category", examples, own.take(rows), asked, openings)
        columns = {
            "example_id": examples["example_id"],
            "model": pa.repeat(name, examples.num_rows),
            "nodes": [one.places for one in found],
            "excess": [one.likelihood - one.anybody for one in found],
        }
        parts.append(pa.table(columns, schema=LIKELIHOODS))
    return pa.concat_tables([LIKELIHOODS.empty_table(), *parts])


def offers_by_split(logs: Constructed, categories: Categories) -> dict[str, Ints]:
    """Nodes on offer before each ranking window."""
    return {split: _seen_before(logs, categories, window) for split, window in RANK_SPLITS.items()}


def read_likelihoods(table: pa.Table, example_ids: Sequence[str], num_nodes: int) -> Vectors:
    """(U, C): the excess of each category over the mean of a text's offer, in its deviations.

    0 for categories that were not on offer. What a chain does to all categories alike says nothing
    of any of them, and a text that is unsure of everything shall not be silent for it.

    Args:
        table: Rows of `LIKELIHOODS` of one model.
        example_ids: Of the texts, in order.
        num_nodes: C.

    Raises:
        DataError: An example is missing, or a node is of another tree.
    """
    places = pc.index_in(pa.array(example_ids), value_set=table["example_id"].combine_chunks())
    if places.null_count:
        raise DataError("likelihoods of other texts: rerun infer and features")
    found_UC = np.zeros((len(example_ids), num_nodes), dtype=np.float32)
    taken = table.take(places)
    for row, (nodes, excess) in enumerate(zip(taken["nodes"], taken["excess"], strict=True)):
        node, value = nodes.values.to_numpy(), excess.values.to_numpy()
        if node.size and not (node.min() >= 0 and node.max() < num_nodes):
            raise DataError("likelihoods of another catalogue: rerun infer and features")
        spread = value.std() if value.size else 0.0
        if spread > 0:
            found_UC[row, node] = (value - value.mean()) / spread
    return found_UC


def likelihoods_of(path: Path, model: str) -> pa.Table:
    """The rows of one model."""
    table = read_parquet(path, LIKELIHOODS)
    return table.filter(pc.equal(table["model"], model))


def _seen_before(logs: Constructed, categories: Categories, window: str) -> Ints:
    start = pa.scalar(logs.calendar.start(window))
    for log in (logs.labelled_exposures, logs.taken):
        earlier = log.filter(pc.less(log["ts"], start))
        rows = pc.index_in(
            pc.unique(earlier["item_id"]), value_set=logs.items["item_id"].combine_chunks()
        )
        nodes = np.unique(categories.of_item[rows.drop_null().to_numpy()])
        if (nodes >= 0).any():
            return np.asarray(nodes[nodes >= 0])
    raise DataError(
        f"infer.likelihoods: nothing was shown or bought before the window {window} begins"
    )


def _names(items: pa.Table, categories: Categories) -> list[list[str]]:
    """Names of each node as its first item writes them."""
    names = [list(path) for path in categories.paths]
    columns = items.select([f"category_l{level}" for level in (1, 2, 3)])
    seen = np.zeros(len(names), dtype=bool)
    for row in columns.to_pylist():
        levels = list(row.values())
        for depth in range(1, len(complete_path(levels)) + 1):
            node = categories.find(complete_path(levels[:depth]))
            if not seen[node]:
                names[node], seen[node] = levels[:depth], True
    return names
