"""What alignment takes for preference: the ranking model of `simulate`, or an exported table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taiji.alignment.diagnosis import NUM_CONSTANTS
from taiji.alignment.rewards.grounding import Ladder
from taiji.alignment.rewards.hacking import best_constants
from taiji.alignment.rewards.normalisers import Discount, fit_normaliser
from taiji.alignment.rewards.preference import PreferenceReward, Scale, scale_from_json
from taiji.alignment.rewards.score_table import ScoreTable, item_means, known_at, read_scores
from taiji.config import RewardsSection, SimulateSection
from taiji.data.ids import meeting, require_met
from taiji.ranking.ctcvr_scorer import CtcvrScorer
from taiji.ranking.train import load_ranker
from taiji.schema import POOL
from taiji.stages.parts.constructed import Constructed, contexts_of
from taiji.stages.parts.context import StageContext
from taiji.store.files import read_json, read_parquet, write_json

_SCALE = "normaliser.json"

Contexts = Mapping[str, tuple[str, datetime]]


@dataclass(frozen=True)
class Preferences:
    """The preference reward of a run.

    Attributes:
        reward: r_id of Eq. 4.
        probe: The same for figures that are only looked at: a missing score is the floor there
            even where the reward refuses it.
        constants: Items that promise most as an answer to everybody.
    """

    reward: PreferenceReward
    probe: PreferenceReward
    constants: list[str]


def load_preferences(
    ctx: StageContext, logs: Constructed, examples: pa.Table
) -> Preferences | None:
    """Build the preference reward for examples; None where there is nothing to take it from.

    Args:
        ctx: Of the stage that pays the reward.
        logs: The log that the examples were drawn from.
        examples: Rows of `schema.EXAMPLES`.

    Raises:
        DataError: The table of scores is damaged, or knows none of the users.
    """
    contexts = contexts_of(examples)
    scores = ctx.recipe.align.rewards.scores
    if scores is not None:
        return _from_table(ctx, Path(scores).expanduser(), logs, contexts)
    if "simulate" not in ctx.inputs:
        return None
    folder = ctx.inputs["simulate"]
    scorer = CtcvrScorer(load_ranker(folder / "ranker"), logs.as_of, contexts)
    reward = PreferenceReward(scorer, scale_from_json(read_json(folder / _SCALE)))
    pool = read_parquet(folder / "pool.parquet", POOL)
    items, scores_N = pool["item_id"].to_pylist(), pool["score"].to_numpy()
    constants = best_constants(items, reward.scale.worth(scores_N, items), NUM_CONSTANTS)
    return Preferences(reward, reward, constants)


def fit_scale(
    section: SimulateSection,
    item_ids: Sequence[str],
    scores_N: NDArray[np.float64],
    means: tuple[Sequence[str], NDArray[np.float64]] | None,
) -> Scale:
    """Fit discount and normaliser on a pool of scores.

    Args:
        section: Which of them.
        item_ids: The item of each score.
        scores_N: The pool.
        means: Items and their mean scores; needed where there is a discount.
    """
    discount = None
    if section.popularity_discount > 0:
        assert means is not None, "a discount needs the items' means"
        discount = Discount.fit(section.popularity_discount, *means)
        scores_N = discount.apply(scores_N, item_ids)
    return Scale(fit_normaliser(section.normaliser, scores_N), discount)


def ladder(section: RewardsSection) -> Ladder:
    """The grounding ladder that the recipe asks for."""
    return Ladder(
        overlap=section.term_overlap,
        floor=section.cosine_floor,
        soft_items=section.soft_items,
        temperature=section.soft_temperature,
        gate=section.gate,
    )


def _from_table(
    ctx: StageContext, path: Path, logs: Constructed, contexts: Contexts
) -> Preferences:
    """Scores of production are on a scale of their own, so the table is its own pool.

    The pool is what was known at the earliest cut-off: bounds and means must not know what came
    later, and are frozen for all prompts.
    """
    table = read_scores(path)
    _require_met(table, path, logs, contexts)
    pool = known_at(table, min(cutoff for _, cutoff in contexts.values()))
    item_ids, scores_N = pool["item_id"].to_pylist(), pool["score"].to_numpy()
    saved = ctx.out / _SCALE
    if not saved.is_file():  # else: resumed, and what was fitted stays
        scale = fit_scale(ctx.recipe.simulate, item_ids, scores_N, item_means(pool))
        write_json(scale.to_json(), saved)
    scale = scale_from_json(read_json(saved))
    scorer = ScoreTable(table, contexts, ctx.recipe.align.rewards.scores_missing)
    reward = PreferenceReward(scorer, scale)
    probe = replace(reward, scorer=ScoreTable(table, contexts, "floor"))
    constants = best_constants(item_ids, scale.worth(scores_N, item_ids), NUM_CONSTANTS)
    return Preferences(reward, probe, constants)


def _require_met(table: pa.Table, path: Path, logs: Constructed, contexts: Contexts) -> None:
    """Do users and items of the scores meet those of the run?"""
    asked = pa.array(sorted({user for user, _ in contexts.values()}), pa.string())
    users = meeting(("users of alignment", asked), ("users with a score", table["user_id"]))
    mend = "export scores for the users of the split rl, with the ids of the log"
    require_met(users.problem(f"{path}: column user_id", mend, enough=1.0))
    items = meeting(
        ("items with a score", table["item_id"]), ("items of the log", logs.items["item_id"])
    )
    mend = "export the ids that the items table has: an answer without a score earns nothing"
    require_met(items.problem(f"{path}: column item_id", mend))
