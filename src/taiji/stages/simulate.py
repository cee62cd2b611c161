"""Stage 3, `simulate`: the offline simulation of Eq. 4.

A ranking model learns CTCVR from the exposures of the reward window, without the held-out
users; the weeks of reinforcement learning validate it. Its scores over a pool of user-item
pairs fit the normaliser and, if asked for, the popularity discount, which stay frozen from then
on. A model that says the same of everybody makes a useless reward, whatever its AUC, and is
refused. A second model, of another class and of the held-out users, is trained to judge the
policy at the end; nothing ever optimises it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taiji.alignment.rewards.preference import Scale
from taiji.config import SimulateSection
from taiji.errors import DataError, DivergenceError, EngineError
from taiji.evaluation.metrics import auc, calibration_ratio, gauc, log_loss
from taiji.ranking.admission import admit, constant_capture, constant_reward, shortcomings
from taiji.ranking.as_of import DENSE, AsOf
from taiji.ranking.ctcvr_scorer import CtcvrScorer, base_predictions
from taiji.ranking.gradient_boosting import BoostedRanker, GradientBoosting
from taiji.ranking.inputs import NO_LANGUAGE
from taiji.ranking.pool import draw_pool
from taiji.ranking.train import Labels, Ranker, fit_ranker, save_ranker
from taiji.ranking.values import fit_value_head
from taiji.schema import POOL, TIME
from taiji.stages.parts.constructed import Constructed, judged_exposures
from taiji.stages.parts.context import StageContext, Summary
from taiji.stages.parts.preferences import fit_scale
from taiji.store.files import write_json, write_parquet

logger = logging.getLogger(__name__)

Figures = dict[str, float]

_USERS_OF_A_MEAN = 32  # every item of the log is scored for each of them


def simulate(ctx: StageContext) -> Summary:
    """Write ranker/, gold/, pool.parquet, normaliser.json and metrics.json.

    Raises:
        DataError: There are no exposures, or too few conversions to learn from.
        DivergenceError: The ranking model is not fit to be a reward.
    """
    logs, recipe = Constructed(ctx.inputs["construct"]), ctx.recipe
    exposures, calendar, asof = logs.labelled_exposures, logs.calendar, logs.as_of
    seen = logs.users.filter(pc.invert(logs.users["holdout"]))["user_id"]
    train = _of_users(calendar.window("reward").rows(exposures), seen)
    ranker = fit_ranker(
        asof.features(train),
        Labels.from_exposures(train),
        recipe.ranker,
        seed=recipe.seed,
        on_step=lambda done, total: ctx.progress(done, total, "training the reward ranker"),
    )
    save_ranker(ranker, ctx.out / "ranker")
    values = None if recipe.ranker.value is None else _fit_values(ctx, asof, train)
    figures: dict[str, Any] = {
        **_validate(ranker, asof, calendar.window("rl").rows(exposures)),
        **_pool(ctx, ranker, asof, _taken_by(logs, seen), calendar.start("rl")),
        "training_exposures": train.num_rows,
        "goal": Labels.from_exposures(train).goal,
        **({} if values is None else {"values": values}),
    }
    figures["admission"] = shortcomings(figures, recipe.simulate)
    write_json(figures, ctx.out / "metrics.json")  # to look at, should it be refused
    _admit(figures["admission"], recipe.simulate)
    figures["gold"] = _gold(ctx, logs, seen)
    write_json(figures, ctx.out / "metrics.json")
    return _summary(figures)


def _fit_values(ctx: StageContext, asof: AsOf, train: pa.Table) -> Figures:
    """Write value/: what a conversion is worth, from those whose value is known.

    Raises:
        DataError: The log has no values, or too few.
    """
    section = ctx.recipe.ranker.value
    assert section is not None, "asked for"
    if "value" not in train.column_names:
        raise DataError(
            "ranker.value: the log does not say what a conversion was worth: map "
            "data.source.exposures.value, or leave out ranker.value"
        )
    worth = train.filter(pc.is_valid(train["value"]))
    value_N = worth["value"].to_numpy()
    head = fit_value_head(asof.features(worth), value_N, section, ctx.recipe.seed)
    head.save(ctx.out / "value")
    return {"conversions": float(value_N.size), "mean": float(value_N.mean())}


def _summary(figures: Mapping[str, Any]) -> Summary:
    gauc = "click_gauc" if figures["goal"] == "click" else "ctcvr_gauc"
    shown = ("click_auc", "ctcvr_auc", gauc, "interaction_share", "constant_capture")
    summary: Summary = {name: round(figures[name], 4) for name in shown if name in figures}
    summary["admitted"] = "no, by request" if figures["admission"] else "yes"
    return summary | {"gold_judge": figures["gold"].get("why", "trained")}


def _admit(missed: Sequence[str], section: SimulateSection) -> None:
    """Refuse the model, or say aloud that it is used although it falls short."""
    if not missed:
        return
    reasons = "; ".join(missed)
    if section.admission == "refuse":
        raise DivergenceError(
            f"simulate: the ranking model is not fit to be a reward: {reasons}. To use it all the "
            "same, or where align.rewards does not pay it: simulate.admission=report"
        )
    logger.warning("simulate: used as a reward although not fit for it: %s", reasons)


def _gold(ctx: StageContext, logs: Constructed, seen: pa.ChunkedArray) -> dict[str, float | str]:
    """Train the judge that nothing optimises: another class of model, and other users.

    It learns from the exposures of users who are not `seen`, in all weeks before the test window,
    and is validated on the others. Where that cannot be done, the figures hold `why`.
    """
    if not ctx.recipe.simulate.gold:
        return {"why": "not judged: simulate.gold is off"}
    exposures, calendar, asof = logs.labelled_exposures, logs.calendar, logs.as_of
    early = exposures.filter(pc.less(exposures["ts"], pa.scalar(calendar.start("test"), TIME)))
    others = pc.invert(pc.is_in(early["user_id"], value_set=seen.combine_chunks()))
    train = early.filter(others)
    try:
        gold = GradientBoosting(ctx.recipe.ranker.boosting).fit(
            asof.features(train),
            Labels.from_exposures(train),
            seed=ctx.recipe.seed,
            language=NO_LANGUAGE,
            on_step=lambda done, total: ctx.progress(done, total, "training the gold judge"),
        )
    except (EngineError, DataError) as error:
        logger.warning("simulate: no gold judge: %s", error)
        return {"why": f"not judged: {error}"}
    gold.save(ctx.out / "gold")
    validation = _of_users(calendar.window("rl").rows(exposures), seen)
    return {
        **_validate(gold, asof, validation),
        "training_exposures": train.num_rows,
        "goal": Labels.from_exposures(train).goal,
    }


def _of_users(table: pa.Table, user_ids: pa.ChunkedArray) -> pa.Table:
    return table.filter(pc.is_in(table["user_id"], value_set=user_ids.combine_chunks()))


def _taken_by(logs: Constructed, user_ids: pa.ChunkedArray) -> pa.Table:
    """What some users took; asked for late, as it is large."""
    return _of_users(logs.taken.select(["user_id", "item_id", "ts"]), user_ids)


def _validate(ranker: Ranker | BoostedRanker, asof: AsOf, exposures: pa.Table) -> Figures:
    """How a ranking model does in the weeks of alignment; undefined figures are left out."""
    exposures = judged_exposures(exposures)
    pairs, labels = asof.features(exposures), Labels.from_exposures(exposures)
    predictions = base_predictions(ranker, pairs)
    popularity = pairs.dense[:, DENSE.index("item_share_of_users")]
    clicked, users = labels.click, pairs.user_ids
    figures = {
        "click_auc": auc(clicked, predictions.ctr),
        "click_gauc": gauc(clicked, predictions.ctr, users),
        "validation_exposures": exposures.num_rows,
    }
    task, goal, scores = "click", clicked, predictions.ctr
    if labels.goal == "conversion":
        task, goal, scores = "ctcvr", clicked * labels.conversion, predictions.ctcvr
    figures |= {
        f"{task}_auc": auc(goal, scores),
        f"{task}_gauc": gauc(goal, scores, users),
        f"{task}_gauc_popularity": gauc(goal, popularity, users),
        f"{task}_log_loss": log_loss(goal, scores),
        f"{task}_calibration_ratio": calibration_ratio(goal, scores),
    }
    return {name: float(figure) for name, figure in figures.items() if np.isfinite(figure)}


def _pool(
    ctx: StageContext, ranker: Ranker, asof: AsOf, interactions: pa.Table, start: datetime
) -> Figures:
    """Score the pool as it stood when the weeks of reinforcement learning began."""
    pool = draw_pool(interactions, start, ctx.recipe.simulate.pool_pairs, ctx.recipe.seed)
    users: list[str] = pool.pairs["user_id"].to_pylist()
    scorer = CtcvrScorer(ranker, asof, {user: (user, start) for user in users})
    scores = scorer.score(users, pool.pairs["item_id"].to_pylist())
    table = pool.pairs.append_column("score", pa.array(scores))
    write_parquet(table, ctx.out / "pool.parquet", POOL)
    item_ids: list[str] = pool.pairs["item_id"].to_pylist()
    means = None
    if ctx.recipe.simulate.popularity_discount > 0:
        sold = interactions.filter(pc.less(interactions["ts"], start))["item_id"].unique()
        grid_users = users[: pool.num_users * pool.num_items : pool.num_items]
        means = _item_means(ctx, scorer, sorted(sold.to_pylist()), grid_users[:_USERS_OF_A_MEAN])
    scale = fit_scale(ctx.recipe.simulate, item_ids, scores, means)
    write_json(scale.to_json(), ctx.out / "normaliser.json")
    shape, size = (pool.num_users, pool.num_items), pool.num_users * pool.num_items
    return {
        **asdict(admit(scores[:size].reshape(shape))),
        **_reward_figures(scale, scores[:size], item_ids[:size], shape),
        "pool_pairs": scores.size,
        "pool_median": float(np.median(scores)),
        "pool_max": float(scores.max()),
    }


def _item_means(
    ctx: StageContext, scorer: CtcvrScorer, item_ids: list[str], users: list[str]
) -> tuple[list[str], NDArray[np.float64]]:
    """Mean pCTCVR of every item sold so far, over the same users for each.

    The grid of the pool holds few items; a discount that knew only those would send the policy
    to the popular ones outside it.
    """
    sums_I = np.zeros(len(item_ids))
    for done, user in enumerate(users, start=1):
        sums_I += scorer.score([user] * len(item_ids), item_ids)
        ctx.progress(done, len(users), "scoring every item for the popularity discount")
    return item_ids, sums_I / len(users)


def _reward_figures(
    scale: Scale, scores_N: NDArray[np.float64], item_ids: list[str], shape: tuple[int, int]
) -> Figures:
    """How personal the reward is, after discount and normaliser, on the grid of the pool."""
    rewards_UI = scale.worth(scores_N, item_ids).reshape(shape)
    best_U, ctcvr_UI = rewards_UI.argmax(axis=1), scores_N.reshape(shape)
    kept = ctcvr_UI[np.arange(best_U.size), best_U].mean() / ctcvr_UI.max(axis=1).mean()
    return {
        "reward_constant_capture": constant_capture(rewards_UI),
        "reward_best_items": int(np.unique(best_U).size),
        "reward_score_kept": float(kept),
        "reward_mean": float(rewards_UI.mean()),
        "reward_best_constant": constant_reward(rewards_UI),
    }
