"""The log that `scale.py` measures stages on: any number of users, the same kind of user each.

Every user has 50 interactions, two to an order, at random minutes of 48 weeks, and is shown 40
items at random minutes of the same weeks. Of 2,000 items on 400 shelves a user has five favourite
shelves: four of five lines come from them, as do half of the exposures. An item of a favourite
shelf is clicked with a chance of 0.4, any other with 0.05; three of ten clicks convert. Users are
drawn in blocks of 20,000, each from a seed of its own, so a larger log begins as a smaller one.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

LINES, EXPOSURES, NUM_ITEMS, SHELVES, FAVOURITES = 50, 40, 2_000, 400, 5
START, WEEKS = datetime(2024, 1, 1, tzinfo=UTC), 48
BLOCK = 20_000
TEXT_AT = datetime(2024, 8, 20, tzinfo=UTC)
"""When the users' texts were written: before the ranking windows begin."""

Ints = NDArray[np.int64]

SOURCE: dict[str, Any] = {
    "kind": "tables",
    "observed_until": "2024-12-31",
    "users": {"files": "users.parquet", "user_id": "user", "profile": {"Region": "region"}},
    "items": {
        "files": "items.parquet",
        "item_id": "item",
        "title": "title",
        "brand": "brand",
        "categories": {"columns": ["hall", "aisle", "shelf"]},
    },
    "interactions": {
        "files": "interactions-*.parquet",
        "user_id": "user",
        "item_id": "item",
        "ts": {"column": "at", "timezone": "UTC"},
        "order_id": "order",
        "price": "price",
    },
    "exposures": {
        "files": "exposures-*.parquet",
        "user_id": "user",
        "item_id": "item",
        "ts": {"column": "at", "timezone": "UTC"},
        "click": "click",
        "conversion": "conversion",
    },
}


def write_log(folder: Path, users: int) -> None:
    """Write the files of a log, and `texts.parquet` with one text a user for `infer.texts_from`."""
    folder.mkdir(parents=True)
    pq.write_table(_items(), folder / "items.parquet")
    people, texts = [], []
    for block, first in enumerate(range(0, users, BLOCK)):
        rng = np.random.default_rng([17, block])
        names = pa.array([f"u{n:07d}" for n in range(first, min(first + BLOCK, users))])
        shelves_UF = rng.integers(0, SHELVES, (len(names), FAVOURITES))
        log, shown = _interactions(rng, names, shelves_UF), _exposures(rng, names, shelves_UF)
        pq.write_table(log, folder / f"interactions-{block:03d}.parquet")
        pq.write_table(shown, folder / f"exposures-{block:03d}.parquet")
        regions = pa.array([f"region {n}" for n in range(20)])
        region = regions.take(pa.array(rng.integers(0, 20, len(names))))
        people.append(pa.table({"user": names, "region": region}))
        texts.append(_texts(rng, names, shelves_UF))
    pq.write_table(pa.concat_tables(people), folder / "users.parquet")
    pq.write_table(pa.concat_tables(texts), folder / "texts.parquet")


def title(item: int) -> str:
    """Of an item."""
    return f"Thing number {item} of its kind, {100 + item % 9 * 50} g"


def _items() -> pa.Table:
    rows = [
        {
            "item": f"i{n}", "title": title(n), "brand": f"Brand {n % 50}",
            "hall": f"Hall {n % 10}", "aisle": f"Aisle {n % 100}", "shelf": f"Shelf {n % SHELVES}",
        }
        for n in range(NUM_ITEMS)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows)


def _interactions(rng: np.random.Generator, names: pa.Array, shelves_UF: Ints) -> pa.Table:
    users, orders = len(names), LINES // 2
    minutes = np.repeat(rng.integers(0, WEEKS * 7 * 24 * 60, (users, orders)), 2, axis=1)
    items, _ = _chosen(rng, shelves_UF, LINES, share=0.8)
    numbers = np.repeat(np.arange(users * orders), 2)
    who = pa.array(np.repeat(np.arange(users), LINES))
    user = names.take(who)
    order = pa.compute.binary_join_element_wise(
        user, pa.array(numbers % orders).cast(pa.string()), "-"
    )
    price = pa.array(rng.uniform(1, 9, users * LINES).round(2))
    return pa.table(
        {"user": user, "item": items, "at": _times(minutes), "order": order, "price": price}
    )


def _exposures(rng: np.random.Generator, names: pa.Array, shelves_UF: Ints) -> pa.Table:
    users = len(names)
    minutes = rng.integers(0, WEEKS * 7 * 24 * 60, (users, EXPOSURES))
    items, liked = _chosen(rng, shelves_UF, EXPOSURES, share=0.5)
    click = rng.random(liked.size) < np.where(liked, 0.4, 0.05)
    conversion = click & (rng.random(liked.size) < 0.3)
    user = names.take(pa.array(np.repeat(np.arange(users), EXPOSURES)))
    columns = {"user": user, "item": items, "at": _times(minutes)}
    labels = {"click": click.astype(np.int8), "conversion": conversion.astype(np.int8)}
    return pa.table(columns | {name: pa.array(flag) for name, flag in labels.items()})


def _texts(rng: np.random.Generator, names: pa.Array, shelves_UF: Ints) -> pa.Table:
    """What a model might have written: shelves in the chain, one item in the answer."""
    items = shelves_UF[:, 0] + SHELVES * rng.integers(0, NUM_ITEMS // SHELVES, len(names))
    texts = [
        f"<think>They come back to {', '.join(f'Shelf {shelf}' for shelf in shelves)} every other "
        f"week, and the last are gone.</think><answer>{title(item)}; Hall {item % 10}; "
        f"Aisle {item % 100}; Shelf {item % SHELVES}</answer>"
        for shelves, item in zip(shelves_UF.tolist(), items.tolist(), strict=True)
    ]
    time = pa.array([TEXT_AT], pa.timestamp("us", tz="UTC"))
    zeros = pa.array(np.zeros(len(names), np.int64))
    return pa.table({"user": names, "time": time.take(zeros), "text": pa.array(texts)})


def _chosen(
    rng: np.random.Generator, shelves_UF: Ints, count: int, share: float
) -> tuple[pa.Array, NDArray[np.bool_]]:
    """Items of `count` lines a user, and whether each is of a favourite shelf."""
    users = len(shelves_UF)
    own = shelves_UF[np.arange(users)[:, None], rng.integers(0, FAVOURITES, (users, count))]
    favourite = own + SHELVES * rng.integers(0, NUM_ITEMS // SHELVES, (users, count))
    anything = rng.integers(0, NUM_ITEMS, (users, count))
    items = np.where(rng.random((users, count)) < share, favourite, anything)
    liked = (items[:, :, None] % SHELVES == shelves_UF[:, None, :]).any(axis=2)
    names = pa.array([f"i{n}" for n in range(NUM_ITEMS)])
    return names.take(pa.array(items.ravel())), liked.ravel()


def _times(minutes: Ints) -> pa.Array:
    start = np.datetime64(START.replace(tzinfo=None), "us")
    return pa.array(start + minutes.ravel().astype("timedelta64[m]"))
