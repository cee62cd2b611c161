"""Ranking models that no longer learn, and the log around them: what texts are measured against."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taiji.config import RankerSection
from taiji.data.calendar import Window
from taiji.errors import DataError
from taiji.lift.dose_response import Seed, Side, World
from taiji.lift.moments import Shown
from taiji.lift.purchases import Purchases
from taiji.lift.stack import Judge, Rows
from taiji.ranking.calibration import held_out
from taiji.ranking.categories import Categories
from taiji.ranking.columns import microseconds, places, to_microseconds
from taiji.ranking.inputs import MIN_COUNT
from taiji.ranking.pairs import Pairs
from taiji.ranking.train import Labels, fit_ranker, predict
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext
from taiji.stages.parts.ranking_windows import RankingWindows
from taiji.store.shards import Shards

FROZEN = pa.schema(
    [
        pa.field("number", pa.int32(), nullable=False),  # of the seed, from 0
        pa.field("held", pa.bool_(), nullable=False),  # of the training window, else of the test
        pa.field("row", pa.int64(), nullable=False),  # of the exposures of that window
        pa.field("ctr", pa.float64(), nullable=False),
        pa.field("ctcvr", pa.float64(), nullable=False),
    ]
)
"""What frozen ranking models predict for visits kept from them and for the test window."""

FEWEST_CLICKS = 20
FEW_CLICKS = 100
MORE_CLICKS = "raise data.exposure_share, or give the ranker window more days"


def fit_frozen(ctx: StageContext, windows: RankingWindows, num_seeds: int) -> None:
    """Write frozen.parquet: the network on base features, once a seed; a kill costs one seed.

    Raises:
        DataError: Too few clicks lie in the visits kept from training.
    """
    parts = Shards(ctx.parts("frozen"), FROZEN)
    for number in range(num_seeds):
        if parts.done(number):
            continue
        what = f"ranking model, seed {number + 1}"

        def on_step(done: int, total: int, number: int = number, what: str = what) -> None:
            ctx.progress(number, num_seeds, f"{what} ({done / total:.0%})")

        parts.write(
            number, _predictions(ctx.recipe.ranker, windows, ctx.recipe.seed, number, on_step)
        )
    parts.merge(num_seeds, ctx.out / "frozen.parquet")


def _predictions(
    section: RankerSection, windows: RankingWindows, seed: int, number: int, on_step: Any
) -> pa.Table:
    labels = Labels.from_exposures(windows.train)
    _, held = held_out(windows.train_pairs.histories(), seed + number)
    if labels.unknown is not None:
        held = held[~labels.unknown[held]]
    check_clicks(int(labels.click[held].sum()), held.size)
    ranker = fit_ranker(windows.train_pairs, labels, section, seed=seed + number, on_step=on_step)
    tables = []
    for is_held, pairs, rows in (
        (True, windows.train_pairs.take(held), held),
        (False, windows.test_pairs, np.arange(len(windows.test_pairs))),
    ):
        found = predict(ranker, pairs)
        columns = {
            "number": np.full(rows.size, number, dtype=np.int32),
            "held": np.full(rows.size, is_held),
            "row": rows,
            "ctr": found.ctr,
            "ctcvr": found.ctcvr,
        }
        tables.append(pa.table(columns, schema=FROZEN))
    return pa.concat_tables(tables)


def check_clicks(num_clicks: int, num_rows: int) -> None:
    """Refuse where a stack would be fitted on next to nothing.

    Raises:
        DataError: Fewer than `FEWEST_CLICKS`.
    """
    if num_clicks < FEWEST_CLICKS:
        raise DataError(
            f"ceiling: {num_clicks} clicks in the {num_rows} exposures kept from training: at "
            f"least {FEWEST_CLICKS} are needed: {MORE_CLICKS}"
        )


def read_world(logs: Constructed) -> World:
    """The log as `taiji.lift` asks it."""
    items, calendar = logs.items, logs.calendar
    categories = Categories.from_items(items)
    if not categories.paths:
        raise DataError(
            "ceiling: no item has a category, and names of categories are what is measured: map "
            "data.source.items.categories"
        )
    purchases = Purchases.from_tables(logs.taken, logs.users, items, categories)
    exposures = logs.labelled_exposures
    earlier = pc.less(exposures["ts"], pa.scalar(calendar.start("ranker")))
    shown = pc.unique(exposures.filter(earlier)["item_id"])
    rows = places(pa.chunked_array([shown]), items["item_id"].combine_chunks(), "item")
    offered = np.zeros(len(categories.paths), dtype=bool)
    node = categories.of_item[rows]
    offered[node[node >= 0]] = True
    week_starts = [to_microseconds(start) for start in calendar.week_starts()]
    return World(categories, purchases, week_starts, offered)


def read_seeds(
    logs: Constructed, frozen: pa.Table, windows: RankingWindows, world: World, seed: int
) -> list[Seed]:
    """Both sides and a judge for each frozen model."""
    users, calendar = logs.users["user_id"].combine_chunks(), logs.calendar
    sides = {
        True: _shown(windows.train, windows.train_pairs, users, calendar.window("ranker")),
        False: _shown(windows.test, windows.test_pairs, users, calendar.window("test")),
    }
    nodes = {
        held: world.categories.of_item[pairs.fields["item"].codes]
        for held, pairs in ((True, windows.train_pairs), (False, windows.test_pairs))
    }
    seeds = []
    for number in sorted(pc.unique(frozen["number"]).to_pylist()):
        own = frozen.filter(pc.equal(frozen["number"], number))
        found: list[tuple[Side, Rows]] = []
        for held in (True, False):
            part = own.filter(pc.equal(own["held"], held))
            rows = part["row"].to_numpy()
            table = (windows.train if held else windows.test).take(part["row"])
            groups = {} if held else _groups(windows)
            side = Side(sides[held], nodes[held], rows)
            found.append((side, _rows(table, part, groups)))
        (held_side, held_rows), (test_side, test_rows) = found
        judge = Judge(held_rows, test_rows, seed + number)
        seeds.append(Seed(held_side, test_side, judge, number))
    return seeds


def _shown(table: pa.Table, pairs: Pairs, users: pa.Array, window: Window) -> Shown:
    return Shown(
        places(table["user_id"], users, "user"),
        microseconds(table["ts"]),
        pairs.histories(),
        to_microseconds(window.starts),
        to_microseconds(window.ends),
    )


def _rows(table: pa.Table, part: pa.Table, groups: dict[str, NDArray[np.bool_]]) -> Rows:
    labels = Labels.from_exposures(table)
    return Rows.of(
        table["user_id"].to_numpy(zero_copy_only=False),
        (labels.click.astype(np.float64), (labels.click * labels.conversion).astype(np.float64)),
        (part["ctr"].to_numpy(), part["ctcvr"].to_numpy()),
        groups,
    )


def _groups(windows: RankingWindows) -> dict[str, NDArray[np.bool_]]:
    """All exposures; those of long-tail users; those of items too rare to be known by their id."""
    train, test = windows.train_pairs.fields["item"], windows.test_pairs.fields["item"]
    shown = np.bincount(train.codes, minlength=len(train.levels))
    groups = {
        "all": np.ones(windows.test.num_rows, dtype=bool),
        "long_tail": windows.long_tail,
        "cold_items": shown[test.codes] < MIN_COUNT,
    }
    return {name: rows for name, rows in groups.items() if rows.any()}


def count_rows(seeds: Sequence[Seed], windows: RankingWindows) -> dict[str, int]:
    """Sizes that a reader of the figures needs."""
    held = Labels.from_exposures(windows.train.take(pa.array(seeds[0].held.rows)))
    test = Labels.from_exposures(windows.test)
    return {
        "users": seeds[0].judge.num_users,
        "held_exposures": int(seeds[0].held.rows.size),
        "held_clicks": int(held.click.sum()),
        "held_conversions": int((held.click * held.conversion).sum()),
        "test_exposures": windows.test.num_rows,
        "test_clicks": int(test.click.sum()),
        "test_conversions": int((test.click * test.conversion).sum()),
    }
