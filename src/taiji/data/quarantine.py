"""quarantine.parquet: the first refused rows of every reason, to be looked at."""

import pyarrow as pa

MOST_KEPT = 1000
"""Rows of one reason that are kept; all of them are counted."""

QUARANTINE = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),
        pa.field("files", pa.string(), nullable=False),  # as the recipe names them
        pa.field("file", pa.string()),
        pa.field("row", pa.int64()),  # null where the format numbers none
        pa.field("key", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("value", pa.string()),  # what stood there, cut
    ]
)
