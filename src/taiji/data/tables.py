"""The four tables that every source of logs is turned into."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

Counts = Mapping[str, int]


@dataclass(frozen=True)
class Tables:
    """A log in the columns of `taiji.schema`.

    Attributes:
        users: One row a user.
        items: One row an item; the text of an item names it uniquely.
        interactions: One row an order and item. All rows of an order have one time.
        exposures: One row a visit and advertised item, with its labels.
        quarantine: What was read and not kept, by table and reason. `kept` is the rest.
    """

    users: pa.Table
    items: pa.Table
    interactions: pa.Table
    exposures: pa.Table
    quarantine: Mapping[str, Counts] = field(default_factory=dict)


def without_zone(table: pa.Table) -> pa.Table:
    """Return `table` with its UTC times as plain ones.

    DuckDB compares zoned times by the zone of the session; plain UTC has no such dependence.
    """
    for index, column in enumerate(table.schema):
        if pa.types.is_timestamp(column.type) and column.type.tz is not None:
            plain = table.column(index).cast(pa.timestamp("us"))
            table = table.set_column(index, column.name, plain)
    return table
