"""The titles among which a predicted answer has to find the true one.

Encoding all titles of the demo data takes minutes on two cores, and half of them are hardly
ever sold, so the catalogue is the titles sold most before a cut-off. It never
looks at a target: targets that are outside count as misses, and the share inside is reported as
the coverage.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taiji.data.item_text import plain_name


def popular_items(items: pa.Table, interactions: pa.Table, before: datetime, size: int) -> pa.Table:
    """The rows of `items` sold most before `before`, most sold first, one row per title.

    Ties go to the smaller item id, so the catalogue depends on nothing but the log.
    """
    earlier = interactions.select(["item_id", "ts"])
    earlier = earlier.filter(pc.less(earlier["ts"], pa.scalar(before)))
    sold = earlier.group_by("item_id").aggregate([("item_id", "count")])
    counted = items.join(sold, keys="item_id", join_type="inner")
    ordered = counted.sort_by([("item_id_count", "descending"), ("item_id", "ascending")])
    first = _first_rows(ordered["title"].to_pylist(), size)
    return ordered.take(pa.array(first, pa.int64())).select(items.column_names)


def coverage(catalogue: pa.Table, titles: Sequence[str]) -> float:
    """Share of `titles` that the catalogue holds; 0 for none."""
    known = set(map(plain_name, catalogue["title"].to_pylist()))
    return float(np.mean([plain_name(title) in known for title in titles])) if titles else 0.0


def _first_rows(titles: Iterable[str], size: int) -> list[int]:
    """The rows at which the first `size` different titles stand; see `plain_name`."""
    seen: dict[str, int] = {}
    for row, title in enumerate(titles):
        if len(seen) == size:
            break
        seen.setdefault(plain_name(title), row)
    return list(seen.values())
