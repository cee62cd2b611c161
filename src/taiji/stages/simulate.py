"""Stage 3, `simulate`: the offline simulation of Eq. 4.

A ranking model learns CTCVR from the exposures of the reward window, without the held-out
users; the weeks of reinforcement learning validate it. Its scores over a pool of user-item
pairs fit the normaliser, which stays frozen from then on. How personal the scores are is
reported beside the AUC: a model that says the same of everybody makes a useless reward.
"""

from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taiji.alignment.rewards import fit_normaliser
from taiji.artifacts import read_parquet, write_json, write_parquet
from taiji.data.splits import window_start
from taiji.evaluation.metrics import auc, calibration_ratio, gauc, log_loss
from taiji.ranking.admission import admit
from taiji.ranking.pairs import DENSE, AsOf
from taiji.ranking.pool import draw_pool
from taiji.ranking.scorer import CtcvrScorer
from taiji.ranking.train import Labels, Ranker, fit_ranker, predict, save_ranker
from taiji.schema import EXPOSURES, INTERACTIONS, ITEMS, POOL, USERS
from taiji.stages.context import StageContext, Summary

Figures = dict[str, float]


def simulate(ctx: StageContext) -> Summary:
    """Write ranker/, pool.parquet, normaliser.json and metrics.json.

    Raises:
        DataError: The exposures hold too few conversions to learn from.
    """
    folder, recipe = ctx.inputs["construct"], ctx.recipe
    users = read_parquet(folder / "users.parquet", USERS)
    interactions = read_parquet(folder / "interactions.parquet", INTERACTIONS)
    exposures = read_parquet(folder / "exposures.parquet", EXPOSURES)
    asof = AsOf(
        users=users,
        items=read_parquet(folder / "items.parquet", ITEMS),
        interactions=interactions,
    )
    seen = users.filter(pc.invert(users["holdout"]))["user_id"]
    train = _of_users(_window(exposures, "reward"), seen)
    ranker = fit_ranker(
        asof.features(train),
        Labels.from_exposures(train),
        recipe.ranker,
        seed=recipe.seed,
        on_step=lambda done, total: ctx.progress(done, total, "training the reward ranker"),
    )
    save_ranker(ranker, ctx.out / "ranker")
    figures = _validate(ranker, asof, _window(exposures, "rl"))
    figures |= _pool(ctx, ranker, asof, _of_users(interactions, seen))
    figures["training_exposures"] = train.num_rows
    write_json(figures, ctx.out / "metrics.json")
    shown = ("click_auc", "ctcvr_auc", "ctcvr_gauc", "interaction_share", "constant_capture")
    return {name: round(figures[name], 4) for name in shown if name in figures}


def _window(exposures: pa.Table, window: str) -> pa.Table:
    return exposures.filter(pc.equal(exposures["window"], window))


def _of_users(table: pa.Table, user_ids: pa.ChunkedArray) -> pa.Table:
    return table.filter(pc.is_in(table["user_id"], value_set=user_ids.combine_chunks()))


def _validate(ranker: Ranker, asof: AsOf, exposures: pa.Table) -> Figures:
    """How the reward ranker does in the weeks after its own; undefined figures are left out."""
    pairs, labels = asof.features(exposures), Labels.from_exposures(exposures)
    predictions = predict(ranker, pairs)
    both = labels.click * labels.conversion
    popularity = pairs.dense[:, DENSE.index("item_share_of_users")]
    figures = {
        "click_auc": auc(labels.click, predictions.ctr),
        "click_gauc": gauc(labels.click, predictions.ctr, pairs.user_ids),
        "ctcvr_auc": auc(both, predictions.ctcvr),
        "ctcvr_gauc": gauc(both, predictions.ctcvr, pairs.user_ids),
        "ctcvr_gauc_popularity": gauc(both, popularity, pairs.user_ids),
        "ctcvr_log_loss": log_loss(both, predictions.ctcvr),
        "ctcvr_calibration_ratio": calibration_ratio(both, predictions.ctcvr),
        "validation_exposures": exposures.num_rows,
    }
    return {name: float(figure) for name, figure in figures.items() if np.isfinite(figure)}


def _pool(ctx: StageContext, ranker: Ranker, asof: AsOf, interactions: pa.Table) -> Figures:
    """Score the pool as it stood when the weeks of reinforcement learning began."""
    start = window_start("rl")
    pool = draw_pool(interactions, start, ctx.recipe.simulate.pool_pairs, ctx.recipe.seed)
    users: list[str] = pool.pairs["user_id"].to_pylist()
    scorer = CtcvrScorer(ranker, asof, {user: (user, start) for user in users})
    scores = scorer.score(users, pool.pairs["item_id"].to_pylist())
    table = pool.pairs.append_column("ctcvr", pa.array(scores))
    write_parquet(table, ctx.out / "pool.parquet", POOL)
    normaliser = fit_normaliser(ctx.recipe.simulate.normaliser, scores)
    write_json(normaliser.to_json(), ctx.out / "normaliser.json")
    grid = scores[: pool.num_users * pool.num_items].reshape(pool.num_users, pool.num_items)
    return {
        **asdict(admit(grid)),
        "pool_pairs": scores.size,
        "pool_median": float(np.median(scores)),
        "pool_max": float(scores.max()),
    }
