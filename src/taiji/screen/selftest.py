"""`taiji selftest`: plant a lift, look for it with the product's own parts, say how much was found.

The world of `data.sources.planted` is built small. Three questions are asked, each over the same
frozen ranking models: what is there to gain for somebody who knows every need and its weight, what
is left of it when needs must be read out of notes, and what does a ranking model make of them that
is trained with the arm `match`? Nothing here needs a language model; the encoder reads the notes.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from taiji.arrays import Array, Ints, Vectors
from taiji.data.sources.planted import NEEDS_A_USER
from taiji.evaluation.influence import Influence, auc_influence, extra_users
from taiji.lift.figures import Figure, figure
from taiji.lift.stack import Gain
from taiji.ranking.categories import LEVELS, NOTHING, deepest_two
from taiji.ranking.inputs import LanguageFeatures
from taiji.ranking.match import TextMatch
from taiji.ranking.named import nearest_categories
from taiji.ranking.pairs import Pairs
from taiji.ranking.serving import dealt_out, serving_texts
from taiji.ranking.train import Labels, fit_ranker, predict
from taiji.screen.planting import Planted, notes_of, plant, planted_recipe

Encode = Callable[[Sequence[str]], Vectors]

RESAMPLES = 200
_MATCHED = "match"


def gain_of_names(planted: Planted, names_MK: Ints) -> list[Gain]:
    """What names add to the clicks of each frozen model, by a stack that is fitted."""
    windows, tree = planted.windows, planted.world.categories
    held, test = (
        match_columns(planted, names_MK, pairs)
        for pairs in (windows.train_pairs, windows.test_pairs)
    )
    levels = deepest_two(tree, tree.of_item[windows.test_pairs.fields["item"].codes])
    return [
        one.judge.gain(held[one.held.rows][:, levels], test[one.test.rows][:, levels])["click"][
            "all"
        ]
        for one in planted.seeds
    ]


def planted_lift(planted: Planted, strength: float) -> list[Influence]:
    """What was planted: click AUC of the frozen logit + strength x need, over that of the logit."""
    needed_N = match_columns(planted, planted.needs, planted.windows.test_pairs)[:, LEVELS - 1]
    return [
        one.judge.known_gain("click", needed_N[one.test.rows], strength)["click_auc"]
        for one in planted.seeds
    ]


def match_columns(planted: Planted, names_MK: Ints, pairs: Pairs) -> Vectors:
    """The columns of the arm `match` for names of each user's periods."""
    serving = serving_texts(planted.users, planted.starts, pairs.user_ids, pairs.ts)
    return names_only(planted, names_MK).columns(serving, pairs.fields["item"].codes)


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
    pairs: Pairs = getattr(planted.windows, f"{part}_pairs")
    first = int(pairs.ts.min())
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
        `right`: share of the test window's needs that were read out of the notes.
    """
    planted = plant(planted_recipe(users, strength), folder, num_seeds)
    extra_RU = extra_users(planted.seeds[0].judge.num_users, RESAMPLES, planted.recipe.seed)
    others = dealt_out(planted.users, planted.starts, "selftest")
    gains = {
        "oracle": planted_lift(planted, strength),
        _MATCHED: gain_of_arm(planted, planted.needs),
    }
    stacked = {"shuffled": planted.needs[others]}
    right: float | None = None
    if encode is not None:
        names_MK = nearest_categories(
            notes_of(planted), planted.starts, planted.world.categories, encode, NEEDS_A_USER
        )
        stacked["notes"] = names_MK
        right = _right_in_test(planted, names_MK)
    figures = {name: figure(of, [], extra_RU, planted.recipe.seed) for name, of in gains.items()}
    for name, names_MK in stacked.items():
        figures[name] = stacked_figure(planted, names_MK, extra_RU)
    lift = figures["oracle"].value
    return {
        "base": planted.seeds[0].judge.base()["all"]["click_auc"],
        "users": users,
        "strength": strength,
        "figures": {name: one.to_json() for name, one in figures.items()},
        "recovered": {name: _share(one, lift) for name, one in figures.items()},
        "right": right,
    }


def stacked_figure(planted: Planted, names_MK: Ints, extra_RU: Array) -> Figure:
    """Click AUC that names add by a fitted stack; its interval holds the doubt about the fit."""
    gains = gain_of_names(planted, names_MK)
    found = [one.found["click_auc"] for one in gains]
    refits = [one.refits["click_auc"] for one in gains]
    return figure(found, refits, extra_RU, planted.recipe.seed)


def _right_in_test(planted: Planted, names_MK: Ints) -> float:
    """The share of the test window's needs, told in held-out words, that are among the names."""
    now = planted.starts == planted.starts.max()
    hits_MK = (names_MK[now][:, :, None] == planted.needs[now][:, None, :]).any(axis=1)
    return float(hits_MK.mean())


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
    "oracle": "what was planted: needs and their weight known",
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
