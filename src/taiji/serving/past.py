"""Events out of the log as Arrow tables, in the columns that the run's own tables have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from taiji.schema import TIME

SELECT = (
    "SELECT table_name, position, user_id, ts, kind, subject, order_id, amount, price, line, note "
    "FROM events"
)
"""Rows as `read_past` takes them."""

INTERACTIONS = pa.schema(
    [
        ("position", pa.int64()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("ts", TIME),
        ("order_id", pa.string()),
        ("kind", pa.string()),
        ("quantity", pa.float64()),
        ("price", pa.float64()),
        ("line", pa.int64()),
        ("note", pa.string()),
    ]
)
BEHAVIOUR = pa.schema(
    [
        ("position", pa.int64()),
        ("user_id", pa.string()),
        ("ts", TIME),
        ("modality", pa.string()),
        ("value", pa.string()),
        ("weight", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Past:
    """What the log holds of some users.

    Attributes:
        interactions: In the columns of `INTERACTIONS`.
        behaviour: In the columns of `BEHAVIOUR`.
        positions: Of the last event of each user who has any.
    """

    interactions: pa.Table
    behaviour: pa.Table
    positions: Mapping[str, int]


def read_past(rows: Sequence[Sequence[Any]]) -> Past:
    """Rows of `SELECT`, in the order of their positions."""
    bought = [row for row in rows if row[0] == "interactions"]
    other = [row for row in rows if row[0] == "events"]
    return Past(
        _table(INTERACTIONS, bought, (1, 2, 5, 3, 6, 4, 7, 8, 9, 10)),
        _table(BEHAVIOUR, other, (1, 2, 3, 4, 5, 7)),
        {row[2]: row[1] for row in rows},
    )


def _table(schema: pa.Schema, rows: Sequence[Sequence[object]], places: Sequence[int]) -> pa.Table:
    columns = [
        pa.array([row[place] for row in rows], pa.int64() if field.type == TIME else field.type)
        for field, place in zip(schema, places, strict=True)
    ]
    arrays = [column.cast(field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
