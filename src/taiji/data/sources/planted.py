"""A world whose truth is known: what a text can lift is planted, and can be measured as found.

Users have stable habits, which a ranking model reads off the log, and two needs that change with
each period. Purchases follow both; a click's log-odds are habit + item + strength x need. When a
period begins, the user leaves a note: a sentence for each need that never names the category, and
two that mean nothing. Ids learn of a need late, from purchases; who reads the notes knows at once.
With strength 0 clicks do not depend on needs, and no text can lift anything.

Everything is drawn from one seed; the tables are written once and kept in the cache.

Shape suffixes: U users, P periods, C categories, I items, N rows.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from taiji.config.sources import PlantedSource, TablesSource
from taiji.data.sources.planted_words import DISTRACTORS, KINDS, MAKERS, NEEDS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

START = datetime(2024, 1, 1, tzinfo=UTC)
PERIODS = (0, 4, 7, 10, 14, 19, 24)
"""Weeks in which needs begin to hold, and the end. Windows of recipes/planted.yaml begin there."""

TEST_PERIOD = 5
"""From here on needs are told in the paraphrase that was held out."""

NEEDS_A_USER = 2
NEED_SHARE = 0.35
"""Of the purchases."""

_VERSION = 2
_HABIT = 0.15  # of the Dirichlet distribution: few categories a user
_ITEMS_A_CATEGORY = len(MAKERS) * len(KINDS)
_VISITS_A_WEEK = 1
_LINES_A_VISIT = 3
_SHOWN_A_VISIT = 4
_BIAS, _OF_HABIT, _OF_ITEM = -4.1, 4.0, 0.5
_CONVERTS = 0.35
_MINUTE = 60_000_000
_WEEK = 7 * 24 * 60 * _MINUTE


@dataclass(frozen=True)
class World:
    """The truth.

    Attributes:
        habit_UC: Share of each category in a user's habitual purchases.
        needs_UPC: 1 where a user needs a category in a period.
        quality_I: What an item adds to the log-odds of a click.
    """

    habit_UC: Floats
    needs_UPC: Floats
    quality_I: Floats


def describe(source: PlantedSource) -> TablesSource:
    """Return the tables of the world, which are written first if they are not there."""
    folder = world_folder(source)
    if not (folder / "whole").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in build_tables(source).items():
            temporary = folder / f".{name}.{os.getpid()}.tmp"
            pq.write_table(table, temporary)
            temporary.replace(folder / f"{name}.parquet")
        (folder / "whole").touch()
    return TablesSource.model_validate({"kind": "tables", "path": str(folder), **_MAPPING})


def world_folder(source: PlantedSource) -> Path:
    """Where the tables of a world lie; `needs.parquet` among them is the truth."""
    base = os.environ.get("XDG_CACHE_HOME")
    root = (Path(base) if base else Path.home() / ".cache") / "taiji" / "planted"
    words = repr((_VERSION, NEEDS, DISTRACTORS, sorted(source.model_dump().items())))
    return root / blake2b(words.encode(), digest_size=8).hexdigest()


_TIME = {"column": "ts"}
_MAPPING: dict[str, Any] = {
    "users": {"files": "users.parquet", "user_id": "user_id", "profile": {"age": "age"}},
    "items": {
        "files": "items.parquet",
        "item_id": "item_id",
        "title": "title",
        "categories": {"columns": ["l1", "l2", "l3"]},
        "brand": "brand",
    },
    "interactions": {
        "files": "interactions.parquet",
        "user_id": "user_id",
        "item_id": "item_id",
        "ts": _TIME,
        "order_id": "order_id",
        "price": {"column": "price"},
    },
    "exposures": {
        "files": "exposures.parquet",
        "user_id": "user_id",
        "item_id": "item_id",
        "ts": _TIME,
        "click": "click",
        "conversion": "conversion",
    },
    "events": {
        "files": "notes.parquet",
        "modality": "note",
        "user_id": "user_id",
        "ts": _TIME,
        "value": "note",
    },
}


def build_tables(source: PlantedSource) -> dict[str, pa.Table]:
    """Draw the world: users, items, interactions, exposures, notes, and the needs behind them."""
    random = np.random.default_rng(source.seed)
    num_users = round(source.users * source.size)
    world = _draw_world(num_users, random)
    user_N, ts_N = _visits(num_users, random)
    bought = _purchases(world, user_N, ts_N, random)
    shown = _exposures(world, user_N, ts_N, source.strength, random)
    converted = np.flatnonzero(shown["conversion"])
    lines = {
        name: np.concatenate([bought[name], shown[name][converted]]) for name in ("user", "item")
    } | {"ts": np.concatenate([bought["ts"], shown["ts"][converted] + 10 * _MINUTE])}
    return {
        "users": _users(num_users, random),
        "items": _items(),
        "interactions": _interactions(lines),
        "exposures": pa.table(
            {
                "user_id": _ids("u", shown["user"]),
                "item_id": _ids("i", shown["item"]),
                "ts": _moments(shown["ts"]),
                "click": shown["click"].astype(np.int8),
                "conversion": shown["conversion"].astype(np.int8),
            }
        ),
        "notes": _notes(world, random),
        "needs": _needs(world),
    }


def _draw_world(num_users: int, random: np.random.Generator) -> World:
    num_periods, num = len(PERIODS) - 1, len(NEEDS)
    order_UPC = random.random((num_users, num_periods, num)).argsort(axis=2)
    return World(
        random.dirichlet(np.full(num, _HABIT), size=num_users),
        (order_UPC < NEEDS_A_USER).astype(np.float64),
        random.normal(size=num * _ITEMS_A_CATEGORY),
    )


def _visits(num_users: int, random: np.random.Generator) -> tuple[Ints, Ints]:
    """User and moment of every visit, at least an hour after the week and its note begin."""
    weeks = np.repeat(np.arange(PERIODS[-1]), _VISITS_A_WEEK)
    user_N = np.repeat(np.arange(num_users), weeks.size)
    within_N = random.integers(60, 7 * 24 * 60 - 60, size=user_N.size) * _MINUTE
    return user_N, np.tile(weeks, num_users) * _WEEK + within_N


def _period(ts_N: Ints) -> Ints:
    return np.searchsorted(np.array(PERIODS) * _WEEK, ts_N, side="right") - 1


def _purchases(
    world: World, user_N: Ints, ts_N: Ints, random: np.random.Generator
) -> dict[str, Ints]:
    """Lines of each visit: of a need or of habit, then any item of that category."""
    user, ts = np.repeat(user_N, _LINES_A_VISIT), np.repeat(ts_N, _LINES_A_VISIT)
    needs = world.needs_UPC[user, _period(ts)] / NEEDS_A_USER
    share = NEED_SHARE * needs + (1 - NEED_SHARE) * world.habit_UC[user]
    below = np.cumsum(share, axis=1) < random.random(user.size)[:, None]
    category = np.minimum(below.sum(axis=1), len(NEEDS) - 1)
    item = category * _ITEMS_A_CATEGORY + random.integers(_ITEMS_A_CATEGORY, size=user.size)
    return {"user": user, "item": item, "ts": ts + 30 * _MINUTE}


def _exposures(
    world: World, user_N: Ints, ts_N: Ints, strength: float, random: np.random.Generator
) -> dict[str, Ints]:
    """What each visit begins with, after the first period: any items, and what came of them."""
    later = _period(ts_N) >= 1
    user, ts = (np.repeat(of[later], _SHOWN_A_VISIT) for of in (user_N, ts_N))
    num_items = world.quality_I.size
    steps = random.integers(1, num_items // _SHOWN_A_VISIT, size=(later.sum(), _SHOWN_A_VISIT))
    first = random.integers(num_items, size=(later.sum(), 1))
    item = ((first + np.cumsum(steps, axis=1)) % num_items).ravel()  # none twice in a visit
    category = item // _ITEMS_A_CATEGORY
    logit = (
        _BIAS
        + _OF_HABIT * world.habit_UC[user, category]
        + _OF_ITEM * world.quality_I[item]
        + strength * world.needs_UPC[user, _period(ts), category]
    )
    click = random.random(user.size) < 1 / (1 + np.exp(-logit))
    conversion = click & (random.random(user.size) < _CONVERTS)
    return {
        "user": user,
        "item": item,
        "ts": ts,
        "click": click.astype(np.int64),
        "conversion": conversion.astype(np.int64),
    }


def _notes(world: World, random: np.random.Generator) -> pa.Table:
    """A sentence a row: each need's paraphrase and as many distractors, just before a period."""
    user_N, period_N, need_N = np.nonzero(world.needs_UPC)
    told = np.array([need.notes for need in NEEDS], dtype=object)
    learnt = random.integers(2, size=user_N.size)
    which_N = np.where(period_N >= TEST_PERIOD, 2, learnt)
    idle = np.array(DISTRACTORS, dtype=object)[random.integers(len(DISTRACTORS), size=user_N.size)]
    user, period = np.tile(user_N, 2), np.tile(period_N, 2)
    place = np.arange(user_N.size) % NEEDS_A_USER  # no two sentences of one minute
    minutes = 10 * np.concatenate([place, place + NEEDS_A_USER])
    minutes = minutes + random.integers(1, 10, size=user.size)
    return pa.table(
        {
            "user_id": _ids("u", user),
            "ts": _moments(np.array(PERIODS)[period] * _WEEK - minutes * _MINUTE),
            "note": pa.array([*told[need_N, which_N], *idle], pa.string()),
        }
    )


def _needs(world: World) -> pa.Table:
    """The truth: who needs what, from when until when."""
    user_N, period_N, need_N = np.nonzero(world.needs_UPC)
    weeks = np.array(PERIODS)
    columns = {
        "user_id": _ids("u", user_N),
        "starts": _moments(weeks[period_N] * _WEEK),
        "ends": _moments(weeks[period_N + 1] * _WEEK),
    }
    for level in ("l1", "l2", "l3"):
        names = np.array([getattr(need, level) for need in NEEDS], dtype=object)
        columns[level] = pa.array(names[need_N], pa.string())
    return pa.table(columns)


def _users(num_users: int, random: np.random.Generator) -> pa.Table:
    ages = random.integers(18, 80, size=num_users)
    return pa.table(
        {"user_id": _ids("u", np.arange(num_users)), "age": [str(age) for age in ages.tolist()]}
    )


def _items() -> pa.Table:
    rows = [
        {
            "item_id": f"i{number}",
            "title": f"{MAKERS[number % len(MAKERS)]} {need.l3}, "
            f"{KINDS[number // len(MAKERS) % len(KINDS)]}",
            "l1": need.l1,
            "l2": need.l2,
            "l3": need.l3,
            "brand": MAKERS[number % len(MAKERS)],
        }
        for place, need in enumerate(NEEDS)
        for number in range(place * _ITEMS_A_CATEGORY, (place + 1) * _ITEMS_A_CATEGORY)
    ]
    return pa.Table.from_pylist(rows)


def _interactions(lines: dict[str, Ints]) -> pa.Table:
    price = 2.0 + lines["item"] % 7
    orders = np.char.add(
        np.char.add(lines["user"].astype(str), "-"), (lines["ts"] // _MINUTE).astype(str)
    )
    return pa.table(
        {
            "user_id": _ids("u", lines["user"]),
            "item_id": _ids("i", lines["item"]),
            "ts": _moments(lines["ts"]),
            "order_id": pa.array(orders),
            "price": price.astype(np.float64),
        }
    )


def _ids(letter: str, number_N: Ints) -> pa.Array:
    return pa.array(np.char.add(letter, number_N.astype(str)))


def _moments(offset_N: Ints) -> pa.Array:
    start = round(START.timestamp() * 1_000_000)
    return pa.array(offset_N + start, pa.timestamp("us", tz="UTC"))
