"""Stage 4, `rank`: ranking models with and without the language features.

Each arm trains on the weeks after all training of language models, with features written
before those weeks, and is judged on the weeks after, with features written before them. All
users train and are judged; those without features carry the code of the missing and an empty
borrowed sequence, so the arms differ in nothing else. Every fit that has finished is kept at
once, so that a killed comparison goes on with the next.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taiji.evaluation.ranking_figures import Exposed, Outcome, comparison_figures
from taiji.ranking.backbones import build_backbones, checked
from taiji.ranking.comparison import Contrast, Variant, plan_contrasts, plan_variants, reseed
from taiji.ranking.train import Labels
from taiji.schema import PREDICTIONS
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext, Summary
from taiji.stages.parts.language_features import FeatureSource
from taiji.stages.parts.ranking_windows import RankingWindows, read_ranking_windows
from taiji.store.files import write_json, write_tables
from taiji.store.shards import Shards
from taiji.store.vouched import copy_vouched, is_whole, vouch

RESAMPLES = 200
_DECIMALS = 5
_PARTS = pa.schema([PREDICTIONS.field(name) for name in ("ctr", "ctcvr")])


Groups = Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Fit:
    """One model to train: a backbone, an arm or a control, and the number of its seed."""

    backbone: str
    variant: Variant
    number: int


def rank(ctx: StageContext) -> Summary:
    """Write predictions.parquet, metrics.json and the models of the first seed.

    Raises:
        ConfigError: A text of `rank.texts` has no features, or a model of one's own is none.
        DataError: There are no exposures, or too few conversions to learn from.
        DivergenceError: A model predicts something that is not a probability.
        EngineError: LightGBM is asked for and not installed.
    """
    metrics = _compare(ctx)
    write_json(metrics, ctx.out / "metrics.json")
    return _summary(metrics)


def plan_fits(ctx: StageContext) -> list[Fit]:
    """Every fit of the comparison; the same plan after a kill, so that parts fit."""
    section = ctx.recipe.rank
    return [
        Fit(backbone, variant, number)
        for number in range(section.seeds)
        for backbone in section.backbones
        for variant in plan_variants(section)
    ]


def _compare(ctx: StageContext) -> dict[str, Any]:
    windows, source = _read(ctx)
    groups = _groups(windows, source)
    fits = plan_fits(ctx)
    parts = _fit_all(ctx, fits, windows, source)
    _write_predictions(ctx, fits, parts, windows.test, groups)
    return _measure(ctx, fits, parts, windows.test, groups)


def _read(ctx: StageContext) -> tuple[RankingWindows, FeatureSource]:
    """What is compared; the log itself is let go of."""
    logs = Constructed(ctx.inputs["construct"])
    source = FeatureSource(ctx, logs.as_of, logs.calendar)
    return read_ranking_windows(logs), source


def _groups(windows: RankingWindows, source: FeatureSource) -> dict[str, NDArray[np.bool_]]:
    """Rows of the test exposures by group of users."""
    return {
        "all": np.ones(windows.test.num_rows, dtype=bool),
        "long_tail": windows.long_tail,
        "covered": source.covered(windows.test_pairs.user_ids),
    }


def _fit_all(
    ctx: StageContext, fits: Sequence[Fit], windows: RankingWindows, source: FeatureSource
) -> list[pa.Table]:
    """Predictions of every fit for the test exposures; those of finished fits are read again."""
    backbones = build_backbones(ctx.recipe.rank.backbones, ctx.recipe.ranker)
    labels = Labels.from_exposures(windows.train)
    parts = Shards(ctx.parts("fits"), _PARTS)
    for index, fit in enumerate(fits):
        folder = _model_folder(ctx, fit)
        if parts.done(index) and (folder is None or is_whole(folder)):
            continue
        what = f"{fit.backbone}, arm {fit.variant.name}, seed {fit.number + 1}"
        ctx.progress(index, len(fits), what)

        def on_step(done: int, total: int, index: int = index, what: str = what) -> None:
            ctx.progress(index, len(fits), f"{what} ({done / total:.0%})")

        seen, later = source.of(fit.variant)
        seed = ctx.recipe.seed + fit.number
        model = backbones[fit.backbone].fit(
            windows.train_pairs,
            labels,
            seed=reseed(fit.variant, seed),
            language=seen,
            on_step=on_step,
        )
        found = model.predict(windows.test_pairs, later)
        found = checked(found, windows.test.num_rows, fit.backbone)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
            model.save(folder)
            vouch(folder)
        columns = [np.asarray(found.ctr), np.asarray(found.ctcvr)]
        parts.write(index, pa.table([c.astype(np.float32) for c in columns], schema=_PARTS))
    ctx.progress(len(fits), len(fits), "judging")
    _keep_models(ctx, fits)
    return list(parts.all(len(fits)))


def _model_folder(ctx: StageContext, fit: Fit) -> Path | None:
    """Where a model waits for the end of the comparison; None for one that is not kept."""
    if fit.number > 0 or fit.variant.name != fit.variant.arm:
        return None
    return ctx.parts("models") / f"{fit.backbone.replace(':', '.')}-{fit.variant.arm}"


def _keep_models(ctx: StageContext, fits: Sequence[Fit]) -> None:
    for fit in fits:
        folder = _model_folder(ctx, fit)
        if folder is not None:
            kept = ctx.out / "models" / fit.backbone.replace(":", ".") / fit.variant.arm
            copy_vouched(folder, kept)


def _write_predictions(
    ctx: StageContext,
    fits: Sequence[Fit],
    parts: Sequence[pa.Table],
    test: pa.Table,
    groups: Groups,
) -> None:
    """One row for each fit and test exposure; the exposures' own columns are shared in memory."""
    tables = (
        _predictions(ctx, fit, part, test, groups) for fit, part in zip(fits, parts, strict=True)
    )
    write_tables(tables, ctx.out / "predictions.parquet", PREDICTIONS)


def _predictions(
    ctx: StageContext, fit: Fit, part: pa.Table, test: pa.Table, groups: Groups
) -> pa.Table:
    """What one fit says of the test exposures."""
    columns = {name: test[name] for name in test.column_names if name in PREDICTIONS.names}
    columns |= {name: part[name] for name in _PARTS.names}
    if Labels.from_exposures(test).goal == "click":
        columns["ctcvr"] = pa.nulls(test.num_rows, pa.float32())
    columns |= {
        "backbone": pa.repeat(pa.scalar(fit.backbone), test.num_rows),
        "arm": pa.repeat(pa.scalar(fit.variant.name), test.num_rows),
        "seed": pa.repeat(pa.scalar(ctx.recipe.seed + fit.number, pa.int32()), test.num_rows),
        "long_tail": pa.array(groups["long_tail"]),
        "covered": pa.array(groups["covered"]),
    }
    return pa.table(columns).select(PREDICTIONS.names)


def _measure(
    ctx: StageContext,
    fits: Sequence[Fit],
    parts: Sequence[pa.Table],
    test: pa.Table,
    groups: Groups,
) -> dict[str, Any]:
    """Figures by backbone and group of users, and what the contrasts are."""
    section = ctx.recipe.rank
    variants = plan_variants(section)
    contrasts = plan_contrasts(variants)
    judged: dict[str, Any] = {}
    for backbone in section.backbones:
        outcomes: dict[str, list[Outcome]] = {variant.name: [] for variant in variants}
        for fit, part in zip(fits, parts, strict=True):
            if fit.backbone == backbone:
                ctr, ctcvr = (part[name].to_numpy().astype(np.float64) for name in _PARTS.names)
                outcomes[fit.variant.name].append(Outcome(ctr, ctcvr))
        judged[backbone] = {
            name: _figures_of(outcomes, contrasts, test, rows, ctx.recipe.seed)
            for name, rows in groups.items()
            if rows.any()
        }
    kinds = {contrast.name: contrast.kind for contrast in contrasts}
    return {"backbones": judged, "contrasts": kinds, "seeds": section.seeds}


def _figures_of(
    outcomes: Mapping[str, Sequence[Outcome]],
    contrasts: Sequence[Contrast],
    test: pa.Table,
    rows: Any,
    seed: int,
) -> dict[str, Any]:
    """Counts and figures of one group of users."""
    labels = Labels.from_exposures(test.filter(rows))
    users = test["user_id"].to_numpy(zero_copy_only=False)[rows]
    both = None
    if labels.goal == "conversion":
        both = (labels.click * labels.conversion).astype(np.float64)
    exposed = Exposed(users, labels.click.astype(np.float64), both)
    part = {
        arm: [Outcome(one.ctr[rows], one.ctcvr[rows]) for one in seeds]
        for arm, seeds in outcomes.items()
    }
    counts = {
        "exposures": int(rows.sum()),
        "users": int(np.unique(users).size),
        "clicks": int(exposed.click.sum()),
        **({} if both is None else {"conversions": int(both.sum())}),
    }
    weights = {contrast.name: contrast.weights for contrast in contrasts}
    return counts | comparison_figures(part, weights, exposed, resamples=RESAMPLES, seed=seed)


def _summary(metrics: Mapping[str, Any]) -> Summary:
    """The two AUCs of each arm over all exposures; a figure that is not defined is left out."""
    backbones = metrics["backbones"]
    return {
        f"{'' if len(backbones) == 1 else backbone + '_'}{arm}_{name}": round(
            figures[name]["value"], _DECIMALS
        )
        for backbone, groups in backbones.items()
        for arm, figures in groups["all"]["arms"].items()
        for name in ("click_auc", "ctcvr_auc")
        if name in figures and figures[name]["value"] is not None
    }
