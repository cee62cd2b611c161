"""A log of a few users whose purchases can be seen by eye."""

import numpy as np
import pyarrow as pa

from taiji import schema
from taiji.lift.purchases import Purchases
from taiji.ranking.categories import Categories

NAMES = ("milk", "eggs", "ham", "tea", "soap")
DAY = 86_400_000_000


def items():
    rows = [
        {
            "item_id": f"i{n}",
            "title": name,
            "category_l1": "Shop",
            "category_l2": "Food" if n < 4 else "Other",
            "category_l3": name,
            "brand": None,
        }
        for n, name in enumerate(NAMES)
    ]
    return pa.Table.from_pylist(rows, schema.ITEMS)


TREE = Categories.from_items(items())
NODE = {name: int(TREE.of_item[n]) for n, name in enumerate(NAMES)}


def users(num):
    rows = [{"user_id": f"u{n}", "holdout": False, "fields": []} for n in range(num)]
    return pa.Table.from_pylist(rows, schema.USERS)


def purchases(*lines, num_users=4):
    """Lines of (user, day, name)."""
    rows = [
        {
            "user_id": f"u{user}",
            "item_id": f"i{NAMES.index(name)}",
            "ts": day * DAY,
            "order_id": f"{user}-{day}",
            "kind": "purchase",
            "quantity": 1,
            "price": 1.0,
        }
        for user, day, name in lines
    ]
    table = pa.Table.from_pylist(rows, schema.INTERACTIONS)
    return Purchases.from_tables(table, users(num_users), items(), TREE)


def names(nodes):
    return [TREE.paths[node][-1] if node >= 0 else None for node in np.asarray(nodes).tolist()]
