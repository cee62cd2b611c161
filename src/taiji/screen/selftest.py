"""`taiji selftest`: plant a lift, look for it with the product's own parts, say how much was found.

The world of `data.sources.planted` is built small. Three questions are asked, each of the same
frozen ranking models: what does somebody add who knows every need (the oracle), what is left
of it when needs must be read out of notes, and what does a ranking model make of them that is
trained with the arm `match`? Nothing here needs a language model; the encoder reads the notes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console

from taiji.arrays import Ints, Vectors
from taiji.config import (
    DataSection,
    DateWindows,
    RankerSection,
    Recipe,
    SplitsSection,
)
from taiji.config.sources import PlantedSource
from taiji.data.item_text import complete_path
from taiji.data.sources.planted import NEEDS_A_USER, world_folder
from taiji.evaluation.influence import Influence, auc_influence, extra_users
from taiji.lift.dose_response import Seed, World
from taiji.lift.figures import Figure, figure
from taiji.ranking.categories import NOTHING, deepest_two
from taiji.ranking.columns import microseconds
from taiji.ranking.inputs import LanguageFeatures
from taiji.ranking.match import TextMatch
from taiji.ranking.named import nearest_categories
from taiji.ranking.serving import dealt_out, serving_texts
from taiji.ranking.train import Labels, fit_ranker, predict
from taiji.schema import EVENTS
from taiji.stages.construct import construct
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext
from taiji.stages.parts.frozen_models import FROZEN, fit_frozen, read_seeds, read_world
from taiji.stages.parts.ranking_windows import RankingWindows, read_ranking_windows
from taiji.store.files import read_parquet

Encode = Callable[[Sequence[str]], Vectors]

RESAMPLES = 200
_MATCHED = "match"


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


def gain_of_names(planted: Planted, names_MK: Ints) -> list[Influence]:
    """Click AUC that names add to each frozen model."""
    windows, tree = planted.windows, planted.world.categories
    match = names_only(planted, names_MK)
    columns = []
    for table, pairs in (
        (windows.train, windows.train_pairs),
        (windows.test, windows.test_pairs),
    ):
        serving = serving_texts(
            planted.users, planted.starts, pairs.user_ids, microseconds(table["ts"])
        )
        columns.append(match.columns(serving, pairs.fields["item"].codes))
    levels = deepest_two(tree, tree.of_item[windows.test_pairs.fields["item"].codes])
    return [
        one.judge.gain(columns[0][one.held.rows][:, levels], columns[1][one.test.rows][:, levels])[
            "click"
        ]["all"].found["click_auc"]
        for one in planted.seeds
    ]


def names_only(planted: Planted, names_MK: Ints) -> TextMatch:
    """A match by names alone; a last row for users without."""
    names = np.pad(names_MK, ((0, 1), (0, 0)), constant_values=NOTHING)
    items = len(planted.world.categories.of_item)
    empty = np.zeros((len(names), 0), np.float32), np.zeros((items, 0), np.float32)
    return TextMatch(planted.world.categories, names, *empty)


def gain_of_arm(planted: Planted, names_MK: Ints) -> list[Influence]:
    """Click AUC that the arm `match` of the network gains over the frozen model of its seed."""
    windows = planted.windows
    labels = Labels.from_exposures(windows.train)
    test = Labels.from_exposures(windows.test)
    _, user_N = np.unique(windows.test_pairs.user_ids, return_inverse=True)
    seen, later = (_language(planted, names_MK, name) for name in ("train", "test"))
    gains = []
    for one in planted.seeds:
        ranker = fit_ranker(
            windows.train_pairs,
            labels,
            planted.recipe.ranker,
            seed=planted.recipe.seed + one.number,
            language=seen,
        )
        found = predict(ranker, windows.test_pairs, later)
        users = one.judge.num_users
        score = auc_influence(test.click.astype(np.float64), found.ctr, user_N, users)
        gains.append(score - one.judge.base_influence("click", "all", "click_auc"))
    return gains


def _language(planted: Planted, names_MK: Ints, part: str) -> LanguageFeatures:
    """Names of the period in which a window lies, by user."""
    table = getattr(planted.windows, part)
    first = int(microseconds(table["ts"]).min())
    starts = np.unique(planted.starts)
    rows = np.flatnonzero(planted.starts == starts[starts <= first].max())
    users = tuple(planted.users[row] for row in rows)
    nothing = np.empty((len(users) + 1, 0), dtype=np.int32)
    vectors = np.empty((len(users) + 1, 0), dtype=np.float32)
    match = names_only(planted, names_MK[rows])
    return LanguageFeatures(users, nothing, nothing, 0, vectors, match)


def run_selftest(
    folder: Path, encode: Encode | None, *, users: int, strength: float = 2.0, num_seeds: int = 2
) -> dict[str, Any]:
    """Plant, look, and say what was found.

    Args:
        folder: To work in.
        encode: Reads the notes; without, they are not read.
        users: Of the world.
        strength: What a need adds to the log-odds of a click.
        num_seeds: Ranking models.

    Returns:
        `base`, and figures (value, low, high) of the click AUC: `oracle`, `shuffled`, `notes`
        (if there is an encoder), `match`; `recovered`: shares of the oracle's lift by name;
        `right`: share of the needs that were read out of the notes.
    """
    planted = plant(planted_recipe(users, strength), folder, num_seeds)
    extra_RU = extra_users(planted.seeds[0].judge.num_users, RESAMPLES, planted.recipe.seed)
    others = dealt_out(planted.users, planted.starts, "selftest")
    gains = {
        "oracle": gain_of_names(planted, planted.needs),
        "shuffled": gain_of_names(planted, planted.needs[others]),
        _MATCHED: gain_of_arm(planted, planted.needs),
    }
    right: float | None = None
    if encode is not None:
        names_MK = nearest_categories(
            notes_of(planted), planted.world.categories, encode, NEEDS_A_USER
        )
        gains["notes"] = gain_of_names(planted, names_MK)
        right = float((names_MK[:, :, None] == planted.needs[:, None, :]).any(axis=1).mean())
    figures = {name: figure(of, [], extra_RU, planted.recipe.seed) for name, of in gains.items()}
    lift = figures["oracle"].value
    return {
        "base": planted.seeds[0].judge.base()["all"]["click_auc"],
        "users": users,
        "strength": strength,
        "figures": {name: one.to_json() for name, one in figures.items()},
        "recovered": {name: _share(one, lift) for name, one in figures.items()},
        "right": right,
    }


def _share(found: Figure, lift: float | None) -> float | None:
    """Of the oracle's lift; None where the oracle has none."""
    if found.value is None or lift is None or lift <= 0:
        return None
    return found.value / lift


def passed(found: dict[str, Any]) -> bool:
    """Whether the lift was seen, most of it by the arm `match`, and none in shuffled needs."""
    figures, recovered = found["figures"], found["recovered"]
    seen = (figures["oracle"]["low"] or 0.0) > 0 and (recovered[_MATCHED] or 0.0) >= _ENOUGH
    shuffled = figures["shuffled"]
    return seen and shuffled["low"] is not None and shuffled["low"] <= 0


_ENOUGH = 0.5
"""Of the oracle's lift: with a thousand users the share is known to some .3."""

_ROWS = {
    "oracle": "needs known, frozen model (what was planted)",
    _MATCHED: "needs known, ranking model trained with `match`",
    "notes": "needs read out of the notes by the encoder",
    "shuffled": "needs of other users (must be 0)",
}


def selftest_lines(found: dict[str, Any]) -> list[str]:
    """The result for a person, a line a row."""
    lines = [f"A lift of {found['figures']['oracle']['value']:+.4f} click AUC exists here."]
    for name, words in _ROWS.items():
        if name in found["figures"]:
            one, share = found["figures"][name], found["recovered"][name]
            part = "" if share is None else f", {100 * share:.0f} % recovered"
            lines.append(
                f"  {words}: {one['value']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]{part}"
            )
    if found["right"] is not None:
        lines.append(f"  needs read rightly out of the notes: {100 * found['right']:.0f} %")
    return lines


def print_selftest(found: dict[str, Any], console: Console) -> None:
    """Say it on the terminal."""
    for line in selftest_lines(found):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
