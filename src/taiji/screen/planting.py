"""A planted world, built small with the product's own parts, and its truth."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from taiji.arrays import Ints
from taiji.config import DataSection, DateWindows, RankerSection, Recipe, SplitsSection
from taiji.config.sources import PlantedSource
from taiji.data.item_text import complete_path
from taiji.data.sources.planted import NEEDS_A_USER, world_folder
from taiji.lift.dose_response import Seed, World
from taiji.ranking.columns import microseconds
from taiji.schema import EVENTS
from taiji.stages.construct import construct
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext
from taiji.stages.parts.frozen_models import FROZEN, fit_frozen, read_seeds, read_world
from taiji.stages.parts.ranking_windows import RankingWindows, read_ranking_windows
from taiji.store.files import read_parquet


@dataclass(frozen=True)
class Planted:
    """The world as the ranking models see it, and its truth.

    Attributes:
        users: Of each period of each user.
        starts: When it begins, microseconds: what tells of it lies before.
        needs: (M, 2) the categories needed.
    """

    recipe: Recipe
    construct: Path
    windows: RankingWindows
    world: World
    seeds: list[Seed]
    users: list[str]
    starts: Ints
    needs: Ints


def planted_recipe(users: int, strength: float, *, size: float = 1.0, seed: int = 17) -> Recipe:
    """The recipe of the selftest: windows begin where needs change (recipes/planted.yaml)."""
    days = ("2024-01-01", "2024-01-29", "2024-03-11", "2024-04-08", "2024-05-13", "2024-06-17")
    names = ("history", "reward", "rl", "ranker", "test", "end")
    windows = DateWindows.model_validate(dict(zip(names, days, strict=True)))
    source = PlantedSource(kind="planted", users=users, size=size, strength=strength, seed=seed)
    data = DataSection(
        source=source,
        splits=SplitsSection(timezone="UTC", windows=windows),
        exposure_share=1.0,
        history_days=42,
        num_sft=8,
        num_rl=4,
        num_test=8,
        num_rank_users=users,
    )
    ranker = RankerSection(epochs=2, own_items=20)
    return Recipe(name="selftest", seed=seed, data=data, ranker=ranker)


def plant(recipe: Recipe, folder: Path, num_seeds: int) -> Planted:
    """Build the world in `folder` with the product's own construct, and freeze the models."""
    for name in ("construct", "ceiling"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    built = folder / "construct"
    construct(StageContext(recipe, built, {}, _silent))
    logs = Constructed(built)
    windows, world = read_ranking_windows(logs), read_world(logs)
    fit_frozen(
        StageContext(recipe, folder / "ceiling", {"construct": built}, _silent), windows, num_seeds
    )
    frozen = read_parquet(folder / "ceiling" / "frozen.parquet", FROZEN)
    seeds = read_seeds(logs, frozen, windows, world, recipe.seed)
    return Planted(recipe, built, windows, world, seeds, *_truth(recipe, world))


def _silent(_done: int, _total: int, _what: str) -> None:
    """Nobody looks."""


def _truth(recipe: Recipe, world: World) -> tuple[list[str], Ints, Ints]:
    source = recipe.data.source
    assert isinstance(source, PlantedSource)
    table = pq.read_table(world_folder(source) / "needs.parquet")
    paths = zip(*(table[level].to_pylist() for level in ("l1", "l2", "l3")), strict=True)
    node = np.array([world.categories.find(complete_path(path)) for path in paths])
    ids, starts = np.array(table["user_id"].to_pylist()), microseconds(table["starts"])
    order = np.lexsort((node, starts, ids))
    first = order[::NEEDS_A_USER]
    return ids[first].tolist(), starts[first], node[order].reshape(-1, NEEDS_A_USER)


def notes_of(planted: Planted) -> list[str]:
    """What each user had last written before each of his periods, a sentence a line."""
    events = read_parquet(planted.construct / "events.parquet", EVENTS)
    ts = microseconds(events["ts"])
    told: dict[tuple[str, int], list[str]] = {}
    borders = np.unique(planted.starts)
    place = np.searchsorted(borders, ts, side="right")  # a note lies just before its period
    rows = zip(
        events["user_id"].to_pylist(), place.tolist(), events["value"].to_pylist(), strict=True
    )
    for user, period, value in rows:
        if period < borders.size:
            told.setdefault((user, int(borders[period])), []).append(value)
    return [
        "\n".join(told.get((user, int(start)), ()))
        for user, start in zip(planted.users, planted.starts.tolist(), strict=True)
    ]
