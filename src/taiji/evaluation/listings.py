"""The table of judged lists of titles: one row per track, list and example."""

import pyarrow as pa

LISTINGS = pa.schema(
    [
        pa.field("track", pa.string(), nullable=False),  # any | novel
        pa.field("list", pa.string(), nullable=False),  # of priors.LISTS, or <model>/<way>
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("target_item_id", pa.string(), nullable=False),
        pa.field("true_l1", pa.string()),
        pa.field("top_item_id", pa.string()),  # null: the list is empty
        pa.field("category_l1", pa.float64()),  # null: the truth has no such level
        pa.field("category_l2", pa.float64()),
        pa.field("category_l3", pa.float64()),
        pa.field("title_exact", pa.float64(), nullable=False),
        pa.field("title_rank", pa.int32(), nullable=False),
    ]
)
