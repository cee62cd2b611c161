"""The table of judgements: one row per track, writer and example."""

import numpy as np
import pyarrow as pa

TRACKS = {"any": "target_item_id", "novel": "novel_target_item_id"}
OUTSIDE = np.iinfo(np.int32).max
"""Rank of a true title that the catalogue does not hold: a miss at any K."""

JUDGEMENTS = pa.schema(
    [
        pa.field("track", pa.string(), nullable=False),  # any | novel
        pa.field("writer", pa.string(), nullable=False),  # a model or a baseline
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("target_item_id", pa.string(), nullable=False),
        pa.field("true_l1", pa.string()),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("think_tag_presence", pa.float64()),  # null: no model wrote this
        pa.field("think_non_empty", pa.float64()),
        pa.field("answer_non_empty", pa.float64()),
        pa.field("category_l1", pa.float64()),  # null: the truth has no such level
        pa.field("category_l2", pa.float64()),
        pa.field("category_l3", pa.float64()),
        pa.field("title_exact", pa.float64(), nullable=False),
        pa.field("title_rank", pa.int32(), nullable=False),
        pa.field("semantic", pa.float64(), nullable=False),  # Eq. 3
        pa.field("grounded_item_id", pa.string()),
        pa.field("rung", pa.string(), nullable=False),
        pa.field("ctcvr", pa.float64(), nullable=False),  # by the reward ranker; 0 if ungrounded
        pa.field(
            "gold_ctcvr", pa.float64()
        ),  # by the judge that nothing optimises, if there is one
    ]
)
