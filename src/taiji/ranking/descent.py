"""Gradient descent of the ranking model: Adam on the ESMM loss, all impressions shuffled.

Shape suffixes: N pairs, F dense features.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from taiji.config import RankerSection
from taiji.errors import DataError, DivergenceError
from taiji.ranking.inputs import Inputs
from taiji.ranking.kaml import KindTargets
from taiji.ranking.model import CtcvrModel, esmm_loss, kaml_loss

OnStep = Callable[[int, int], None]

_FINAL_RATE = 0.05  # the learning rate falls linearly to this share of its start


@dataclass(frozen=True)
class TrainingSet:
    """What to learn.

    Attributes:
        inputs: Of N pairs.
        dense: (N, F), to be standardised.
        click: (N,).
        conversion: (N,).
        rows: Which of the pairs to learn from.
        unknown: (N,) clicks whose conversion nobody knows; None for none.
        kinds: Of several kinds of conversion; None for one.
    """

    inputs: Inputs
    dense: NDArray[np.float32]
    click: NDArray[np.float32]
    conversion: NDArray[np.float32]
    rows: NDArray[np.int64]
    unknown: NDArray[np.bool_] | None = None
    kinds: KindTargets | None = None


def descend(
    model: CtcvrModel, task: TrainingSet, section: RankerSection, seed: int, on_step: OnStep | None
) -> None:
    """Train in place; `on_step` is called with steps done and steps in all.

    Raises:
        DataError: There is no click or no conversion to learn from, or nothing else.
        DivergenceError: The loss is NaN or infinite.
    """
    _start_from(model, task)
    optimizer = torch.optim.Adam(model.parameters(), lr=section.learning_rate, fused=True)
    steps = section.epochs * -(-task.rows.size // section.batch_size)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, _FINAL_RATE, total_iters=steps)
    random = np.random.default_rng(seed)
    step = 0
    for _ in range(section.epochs):
        order = random.permutation(task.rows)
        for begin in range(0, order.size, section.batch_size):
            rows = order[begin : begin + section.batch_size]
            loss = _loss(model, task, section, rows)
            step += 1
            if not torch.isfinite(loss):
                raise DivergenceError(f"ranking model: loss is {loss.item()} at step {step}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if on_step is not None:
                on_step(step, steps)


def _loss(
    model: CtcvrModel, task: TrainingSet, section: RankerSection, rows: NDArray[np.int64]
) -> torch.Tensor:
    batch, click_B = task.inputs.batch(rows), torch.from_numpy(task.click[rows])
    unknown_B = None if task.unknown is None else torch.from_numpy(task.unknown[rows])
    if task.kinds is None or section.kaml is None:
        conversion_B = torch.from_numpy(task.conversion[rows])
        return esmm_loss(model(batch), click_B, conversion_B, unknown_B)
    targets = task.kinds.at(rows)
    logits = model(batch, targets.original_NJ)
    return kaml_loss(logits, click_B, targets, section.kaml.gamma, unknown_B)


def thin(
    rows: NDArray[np.int64], click_N: NDArray[np.float32], keep_negatives: float, seed: int
) -> NDArray[np.int64]:
    """All clicks among `rows`, and each non-click with the given chance."""
    lucky = np.random.default_rng((seed, 1)).random(rows.size) < keep_negatives
    return rows[lucky | (click_N[rows] > 0)]


def undo_thinning(model: CtcvrModel, keep_negatives: float) -> None:
    """Put pCTR right after training on a share w of the non-clicks.

    p / (p + (1 - p) / w) is log w added to the logit, so the click tower's last bias takes it
    once and for all. pCVR is given a click and needs no correction. Correcting the click factor
    before the product also orders pCTCVR rightly, which no map of the product could.
    """
    with torch.no_grad():
        _last(model.ctr).bias.add_(float(np.log(keep_negatives)))


def _start_from(model: CtcvrModel, task: TrainingSet) -> None:
    """Standardise the dense features and begin both towers at their base rates."""
    click, conversion = task.click[task.rows], task.conversion[task.rows]
    clicks, conversions = float(click.sum()), float((click * conversion).sum())
    known = clicks if task.unknown is None else clicks - float(task.unknown[task.rows].sum())
    _require_both_outcomes(
        click.size, clicks, None if model.shape.goal == "click" else (known, conversions)
    )
    dense_NF = task.dense[task.rows]
    mean, deviation = dense_NF.mean(axis=0, dtype=np.float64), dense_NF.std(axis=0)
    with torch.no_grad():
        model.dense_mean.copy_(torch.from_numpy(mean))
        model.dense_scale.copy_(torch.from_numpy(1 / np.maximum(deviation, 1e-3)))
        for tower, rate in ((model.ctr, clicks / click.size), (model.cvr, conversions / known)):
            if tower is not None:
                _last(tower).bias.fill_(float(np.log(rate / (1 - rate))))
        if model.kinds is not None and task.kinds is not None:
            model.kinds.start_from(task.kinds.at(task.rows), torch.from_numpy(click))


def _require_both_outcomes(shown: int, clicks: float, outcomes: tuple[float, float] | None) -> None:
    """Of each step of the funnel some must go on and some not.

    Args:
        shown: Impressions.
        clicks: Of those.
        outcomes: Clicks whose conversion is known, and conversions; None: the click is the end.
    """
    counted = f"ranking model: {shown} impressions, {clicks:.0f} clicks"
    if outcomes is None and not 0 < clicks < shown:
        raise DataError(
            f"{counted} to train on: some must be clicked and some not; raise data.exposure_share"
        )
    if outcomes is not None and not 0 < outcomes[1] < outcomes[0] <= clicks < shown:
        told = "" if outcomes[0] == clicks else f", {outcomes[0]:.0f} with a known outcome"
        raise DataError(
            f"{counted}{told}, {outcomes[1]:.0f} conversions to train on: each must be more than "
            "the next, and the last above 0; raise data.exposure_share, or take the click for the "
            "goal: data.goal=click"
        )


def _last(tower: torch.nn.Sequential) -> torch.nn.Linear:
    layer = tower[-1]
    assert isinstance(layer, torch.nn.Linear)
    return layer
