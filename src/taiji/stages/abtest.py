"""Stage 4, `abtest`: a simulation of the paper's online test over the logged visits.

The ranking models of `rank`, first seed, compete for the same requests in a market with second
prices, budgets and cost control. Users respond as a model of another class says, which was fitted
on the very weeks that are replayed. docs/abtest.md says what that may show and what not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taiji.abtest.experiment import AA, MEASURES, Plan, assign
from taiji.abtest.figures import check_buckets, trial_figures
from taiji.abtest.market import Traffic
from taiji.abtest.requests import Inventory, Requests, draw_requests
from taiji.abtest.response import Response, fit_response
from taiji.abtest.statistics import check_library
from taiji.abtest.trial import Models, Outcomes, Split, run_trial
from taiji.arrays import Ints
from taiji.errors import DataError
from taiji.ranking.columns import places
from taiji.ranking.train import Labels
from taiji.stages.parts.ab_arms import load_rankers, score_candidates
from taiji.stages.parts.constructed import Constructed, judged_exposures
from taiji.stages.parts.context import StageContext, Summary
from taiji.store.files import write_json, write_parquet


def abtest(ctx: StageContext) -> Summary:
    """Write metrics.json and outcomes.parquet; neither holds the id of a user.

    Raises:
        ConfigError: `rank` was not asked for what a comparison needs.
        DataError: There are no exposures, or too few conversions, weeks or users.
        EngineError: The extra `abtest` is not installed.
    """
    check_library()
    load_rankers(ctx)  # what is missing should show before the long work
    logs, section = Constructed(ctx.inputs["construct"]), ctx.recipe.abtest
    test = judged_exposures(logs.calendar.window("test").rows(logs.labelled_exposures))
    ground = _prepare(ctx, logs, test)
    ctx.progress(0, 1, "fitting the response model")
    response = _fit_response(ctx, logs, test, ground.inventory)
    models = score_candidates(ctx, logs, ground.requests, ground.inventory, response)
    plan = _plan(ctx, ground, models)
    outcomes = run_trial(
        plan,
        models,
        ground.split,
        worlds=section.worlds,
        seed=ctx.recipe.seed,
        on_served=lambda done, total: ctx.progress(done, total, "serving every arm, by world"),
    )
    tail_U = _long_tail(logs, ground.user_ids)
    groups = {"all": np.ones(tail_U.size, dtype=bool), "long_tail": tail_U}
    metrics = trial_figures(outcomes, ground.split, ground.requests_U, groups, seed=ctx.recipe.seed)
    metrics |= _circumstances(ctx, plan, ground.requests, response, outcomes)
    write_json(metrics, ctx.out / "metrics.json")
    _write_outcomes(ctx, outcomes, ground.requests_U, tail_U)
    return _summary(metrics)


@dataclass(frozen=True)
class _Ground:
    """Who asks, when, for what, and in which bucket.

    Attributes:
        user_ids: Those with a request; all else numbers them in this order.
        user_R: Number of each request's user.
        measured: Requests that count.
        requests_U: How many of them each user has.
    """

    inventory: Inventory
    requests: Requests
    user_ids: NDArray[np.object_]
    user_R: Ints
    measured: Ints
    requests_U: Ints
    split: Split


def _prepare(ctx: StageContext, logs: Constructed, test: pa.Table) -> _Ground:
    section, start = ctx.recipe.abtest, logs.calendar.start("test")
    before = logs.interactions.filter(pc.less(logs.interactions["ts"], start))
    inventory = Inventory.build(logs.users, logs.items, before)
    requests = draw_requests(
        test,
        inventory,
        logs.calendar.week_starts("test"),  # budgets are of whole weeks
        num_requests=section.requests,
        num_candidates=section.candidates,
        seed=ctx.recipe.seed,
    )
    rows_U, user_R = np.unique(requests.user_R, return_inverse=True)
    measured = _measured(requests, section.warmup_weeks)
    requests_U = np.bincount(user_R[measured], minlength=rows_U.size)
    user_ids = inventory.user_ids.take(pa.array(rows_U)).to_numpy(zero_copy_only=False)
    split = _split(ctx, user_ids)
    check_buckets(split, requests_U)
    return _Ground(inventory, requests, user_ids, user_R, measured, requests_U, split)


def _measured(requests: Requests, warmup_weeks: int) -> Ints:
    """Requests after the warm-up.

    Raises:
        DataError: No week is left.
    """
    measured = np.flatnonzero(requests.week_R >= warmup_weeks)
    if not measured.size:
        raise DataError(
            f"abtest: the test window has {int(requests.week_R.max()) + 1} weeks with visits and "
            f"{warmup_weeks} warm up, so none is left to measure: lower abtest.warmup_weeks or "
            "widen data.splits.windows"
        )
    return measured


def _split(ctx: StageContext, user_ids: NDArray[np.object_]) -> Split:
    section = ctx.recipe.abtest
    others = [arm for arm in ("intra", "cross", "both") if arm in ctx.recipe.rank.arms]
    arms = ("base", AA, *others)
    bucket_U = assign(user_ids.tolist(), len(arms), section.bucket_share, section.salt)
    return Split(arms, bucket_U, section.bucket_share)


def _fit_response(
    ctx: StageContext, logs: Constructed, test: pa.Table, inventory: Inventory
) -> Response:
    labels = Labels.from_exposures(test)
    return fit_response(
        logs.as_of.features(test),
        places(test["user_id"], inventory.user_ids, "user"),
        (labels.click * labels.conversion).astype(np.float64),
        strength=ctx.recipe.abtest.persona,
        seed=ctx.recipe.seed,
    )


def _plan(ctx: StageContext, ground: _Ground, models: Models) -> Plan:
    """Only those who own a candidate take part."""
    requests, user_R = ground.requests, ground.user_R
    owners, owner_RC = np.unique(
        ground.inventory.advertiser_I[requests.item_RC], return_inverse=True
    )
    traffic = Traffic(
        owner_RC.reshape(requests.item_RC.shape).astype(np.int32),
        models.truth,
        requests.week_R,
        requests.slice_R,
    )
    return Plan(
        traffic=traffic,
        user_R=user_R,
        num_users=ground.user_ids.size,
        warmup=np.setdiff1d(np.arange(user_R.size), ground.measured),
        measured=ground.measured,
        tcpa_A=ground.inventory.tcpa_A[owners],
        budget=ctx.recipe.abtest.budget,
        cost_control=ctx.recipe.abtest.cost_control,
    )


def _long_tail(logs: Constructed, user_ids: NDArray[np.object_]) -> NDArray[np.bool_]:
    """As in `rank`: a history no longer than that of half the users it trained on."""
    window = logs.calendar.window("ranker")
    seen = window.rows(logs.labelled_exposures)["user_id"].unique().to_numpy(zero_copy_only=False)
    border = np.median(logs.as_of.history_lengths(seen, window.starts)) if seen.size else 0.0
    return np.asarray(logs.as_of.history_lengths(user_ids, window.starts) <= border)


def _circumstances(
    ctx: StageContext, plan: Plan, requests: Requests, response: Response, outcomes: Outcomes
) -> dict[str, Any]:
    """What the figures rest on."""
    return {
        "requests": {"measured": plan.measured.size, "warmup": plan.warmup.size},
        "worlds": ctx.recipe.abtest.worlds,
        "bucket_share": ctx.recipe.abtest.bucket_share,
        "candidates": requests.item_RC.shape[1],
        "advertisers": plan.tcpa_A.size,
        "weeks": int(requests.week_R.max()) + 1,
        "response": response.figures,
        "market": {
            "cost_ratio": outcomes.cost_ratio,
            "exhausted": outcomes.exhausted,
            "served": outcomes.served,
        },
    }


def _write_outcomes(
    ctx: StageContext, outcomes: Outcomes, requests_U: Ints, long_tail_U: NDArray[np.bool_]
) -> None:
    """The first world, one row a user in a random order, for whoever wants to split it again."""
    columns: dict[str, Any] = {"requests": requests_U, "long_tail": long_tail_U}
    sums = {"before": outcomes.before_UM, **outcomes.first}
    for name, sums_UM in sums.items():
        columns |= {f"{name}_{measure}": sums_UM[:, m] for m, measure in enumerate(MEASURES)}
    table = pa.table(columns).filter(pa.array(requests_U > 0))
    order = np.random.default_rng([ctx.recipe.seed, 4]).permutation(table.num_rows)
    write_parquet(table.take(pa.array(order)), ctx.out / "outcomes.parquet", table.schema)


def _summary(metrics: Mapping[str, Any]) -> Summary:
    """The simulated lifts of the counterfactual, in points of per cent."""
    return {
        f"simulated_{arm}_{measure}_lift": round(100 * figures[measure]["value"], 3)
        for arm, figures in metrics["counterfactual"]["all"].items()
        for measure in ("revenue", "advv")
        if figures[measure]["value"] is not None
    }
