"""A small market with a year of visits: users like some shelves and nothing else matters."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
from weeks import WEEKS, week_start

from taiji import schema

NUM_SHELVES, NUM_PER_SHELF = 6, 4


@dataclass(frozen=True)
class Market:
    users: pa.Table
    items: pa.Table
    interactions: pa.Table
    exposures: pa.Table


def users(num_users: int) -> pa.Table:
    rows = [
        {
            "user_id": f"u{n:03d}",
            "holdout": n % 10 == 9,
            "fields": [("age", ("35-44", "45-54", None)[n % 3]), ("income", None)],
        }
        for n in range(num_users)
    ]
    return pa.Table.from_pylist(rows, schema.USERS)


def items() -> pa.Table:
    rows = [
        {
            "item_id": f"i{shelf}{n}",
            "title": f"Thing {n} of shelf {shelf}",
            "category_l1": "Grocery" if shelf < 4 else "Drug",
            "category_l2": f"Aisle {shelf // 2}",
            "category_l3": "Shelf" if shelf < 2 else f"Shelf {shelf}",  # one name, two parents
            "brand": "Own" if n % 2 else None,
        }
        for shelf in range(NUM_SHELVES)
        for n in range(NUM_PER_SHELF)
    ]
    return pa.Table.from_pylist(rows, schema.ITEMS)


def purchase(user: str, item: str, ts: datetime, price: float | None = 1.0) -> dict:
    return {
        "user_id": user,
        "item_id": item,
        "ts": ts,
        "order_id": f"{user}-{ts.isoformat()}",
        "kind": "purchase",
        "quantity": 1,
        "price": price,
    }


def log(*purchases: dict) -> pa.Table:
    return pa.Table.from_pylist(list(purchases), schema.INTERACTIONS)


def pairs(*rows: tuple[str, str, datetime]) -> pa.Table:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return pa.table(
        {
            "user_id": pa.array(columns[0]),
            "item_id": pa.array(columns[1]),
            "ts": pa.array(columns[2], schema.TIME),
            "placement": pa.array(["front"] * len(rows)),
        }
    )


def build(num_users: int = 40, per_visit: int = 4, seed: int = 0) -> Market:
    """Each user visits once a week, is shown `per_visit` items and buys of two liked shelves."""
    random = np.random.default_rng(seed)
    liked = np.array([random.permutation(NUM_SHELVES)[:2] for _ in range(num_users)])
    purchases, exposures = [], []
    windows = [(name, w) for name, (a, b) in WEEKS.items() for w in range(a, b + 1)]
    for name, week in windows:
        for user in range(num_users):
            visit = week_start(week) + timedelta(hours=int(random.integers(1, 150)))
            for shelf in liked[user]:
                item = f"i{shelf}{random.integers(NUM_PER_SHELF)}"
                purchases.append(purchase(f"u{user:03d}", item, visit, 1.0 + shelf))
            if name == "history":
                continue
            for shown in random.permutation(NUM_SHELVES * NUM_PER_SHELF)[:per_visit]:
                shelf, n = divmod(int(shown), NUM_PER_SHELF)
                click = random.random() < (0.7 if shelf in liked[user] else 0.05)
                converts = click and random.random() < (0.6 if n == 0 else 0.2)
                exposures.append(
                    {
                        "user_id": f"u{user:03d}",
                        "item_id": f"i{shelf}{n}",
                        "ts": visit,
                        "placement": "front" if n else "back",
                        "click": int(click),
                        "conversion": int(converts),
                    }
                )
    return Market(
        users(num_users),
        items(),
        log(*purchases),
        pa.Table.from_pylist(exposures, schema.EXPOSURES),
    )
