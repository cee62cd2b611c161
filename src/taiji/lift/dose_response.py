"""The dose-response curve: what names of a given accuracy, number and freshness add.

Shape suffixes: N exposures, M moments, K names, C categories, U users.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from taiji.arrays import Array, Flags, Ints
from taiji.config import CeilingSection
from taiji.evaluation.influence import extra_users
from taiji.lift.figures import gain_figures
from taiji.lift.log_lists import log_names
from taiji.lift.moments import Moments, Refresh, Shown, plan_moments
from taiji.lift.oracle import ComeTrue, Oracle
from taiji.lift.purchases import Purchases
from taiji.lift.stack import Gain, Judge
from taiji.ranking.categories import Categories, deepest_two, matches

Among = Literal["all", "offer"]
Gains = dict[str, dict[str, Gain]]
OnStep = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Side:
    """Half of an experiment: the exposures that fit a stack, or those that judge it.

    Attributes:
        shown: The exposures of the window.
        node_N: Category of each one's item.
            rows: Which of them count here.
    """

    shown: Shown
    node_N: Ints
    rows: Ints


@dataclass(frozen=True)
class Seed:
    """One frozen ranking model.

    Attributes:
        held: Of the window that it learned in, the visits kept from it.
        test: The test window.
        judge: Holds its logits for both.
        number: Of the seed.
    """

    held: Side
    test: Side
    judge: Judge
    number: int


@dataclass(frozen=True)
class World:
    """What the log knows.

    Attributes:
        categories: The tree.
        purchases: Who bought what and when.
        week_starts: Of the calendar, microseconds.
        offered: Categories shown before the first window, as a mask of (C,).
    """

    categories: Categories
    purchases: Purchases
    week_starts: Sequence[int]
    offered: Flags


@dataclass(frozen=True)
class Cell:
    """One point of the curve."""

    refresh: Refresh
    among: Among
    names: int
    accuracy: float


def plan_cells(section: CeilingSection, world: World) -> list[Cell]:
    """Every point; those among the offer only where something was on offer before."""
    return [
        Cell(refresh, among, names, accuracy)
        for refresh in section.refresh
        for among in section.among
        if among == "all" or world.offered.any()
        for names in section.names
        for accuracy in section.accuracy
    ]


def dose_response(
    section: CeilingSection, world: World, seeds: Sequence[Seed], *, seed: int, on_step: OnStep
) -> dict[str, Any]:
    """`points` of the oracle and `log` lists, each with figures by group and measure."""
    cells = plan_cells(section, world)
    gains: dict[Cell, list[Gains]] = {cell: [] for cell in cells}
    facts: dict[Cell, dict[str, float]] = {}
    lists: dict[tuple[str, str, int], list[Gains]] = {}
    list_facts: dict[tuple[str, str, int], dict[str, float]] = {}
    told_by_log = _log_names(section, world, seeds[0])
    for done, one in enumerate(seeds):
        on_step(done, len(seeds), f"oracle names, seed {done + 1}")
        for cell, gain, fact in _oracle_gains(section, world, one, seed):
            gains[cell].append(gain)
            facts.setdefault(cell, fact)
        for key, gain, fact in _log_gains(section, world, one, told_by_log):
            lists.setdefault(key, []).append(gain)
            list_facts.setdefault(key, fact)
    on_step(len(seeds), len(seeds), "intervals")
    extra_RU = extra_users(seeds[0].judge.num_users, section.resamples, seed)
    points = [
        {**vars(cell), **facts[cell], "groups": gain_figures(gains[cell], extra_RU, seed)}
        for cell in cells
    ]
    log = [
        {
            "list": name,
            "refresh": refresh,
            "names": names,
            **list_facts[name, refresh, names],
            "groups": gain_figures(found, extra_RU, seed),
        }
        for (name, refresh, names), found in lists.items()
    ]
    return {"points": points, "log": log}


def _moments(world: World, refresh: Refresh, one: Seed) -> tuple[Moments, Moments]:
    held, test = (
        plan_moments(refresh, side.shown, world.week_starts, world.purchases)
        for side in (one.held, one.test)
    )
    return held, test


def _oracle_gains(
    section: CeilingSection, world: World, one: Seed, seed: int
) -> Iterator[tuple[Cell, Gains, dict[str, float]]]:
    most = max(section.names)
    for refresh in section.refresh:
        both = _moments(world, refresh, one)
        true = ComeTrue.look(both[1], world.purchases, len(world.categories.paths))
        for among in section.among:
            if among == "offer" and not world.offered.any():
                continue
            chance_C = _chances(world, one.held.shown.starts, among)
            random = np.random.default_rng((seed, one.number, 4))
            held, test = (
                Oracle.look(moments, world.purchases, chance_C, names=most, random=random)
                for moments in both
            )
            for names in section.names:
                for accuracy in section.accuracy:
                    told = held.names(names, accuracy), test.names(names, accuracy)
                    gain, fact = judge_names(world, one, both, told, true)
                    yield Cell(refresh, among, names, accuracy), gain, fact


def _log_names(
    section: CeilingSection, world: World, one: Seed
) -> dict[str, list[dict[str, Ints]]]:
    """Refresh -> the lists of both sides; they are the same for every seed."""
    return {
        refresh: [
            log_names(
                moments,
                world.purchases,
                before=one.held.shown.starts,
                num_nodes=len(world.categories.paths),
                names=max(section.names),
            )
            for moments in _moments(world, refresh, one)
        ]
        for refresh in section.refresh
    }


def _log_gains(
    section: CeilingSection,
    world: World,
    one: Seed,
    told_by_log: dict[str, list[dict[str, Ints]]],
) -> Iterator[tuple[tuple[str, str, int], Gains, dict[str, float]]]:
    for refresh in section.refresh:
        found = told_by_log[refresh]
        both = _moments(world, refresh, one)
        true = ComeTrue.look(both[1], world.purchases, len(world.categories.paths))
        for name in found[0]:
            for names in section.names:
                told = found[0][name][:, :names], found[1][name][:, :names]
                gain, fact = judge_names(world, one, both, told, true)
                yield (name, refresh, names), gain, fact


def judge_names(
    world: World,
    one: Seed,
    both: tuple[Moments, Moments],
    told: tuple[Ints, Ints],
    true: ComeTrue,
) -> tuple[Gains, dict[str, float]]:
    """What names add to one frozen model; and their share right, and their reach.

    Args:
        world: The log.
        one: The model.
        both: When texts are written, for the held-out side and for the test side.
        told: (M, K) names of either.
        true: What comes true on the test side.
    """
    levels = deepest_two(world.categories, one.test.node_N)
    columns = [
        matches(
            world.categories,
            names_MK,
            moments.of_row_N[side.rows],
            side.node_N[side.rows],
        )[:, levels]
        for side, moments, names_MK in zip((one.held, one.test), both, told, strict=True)
    ]
    fact = {
        "right": true.share(told[1]),
        "reach": float(columns[1][:, 0].mean()) if levels else 0.0,
    }
    return one.judge.gain(*columns), fact


def _chances(world: World, before: int, among: Among) -> Array:
    """How often each category had been bought before; of those on offer alone, if so asked."""
    past = world.purchases.ts_E < before
    count_C = np.bincount(
        world.purchases.node_E[past], minlength=len(world.categories.paths)
    ).astype(np.float64)
    return np.where(world.offered, count_C, 0.0) if among == "offer" else count_C
