"""Fit the ranking model, let it predict, keep it on disk.

The last stretch of the training window is held out by time for calibration: the model never
trains on it, and the two Platt parameters fitted there stay frozen. Same seed, same bits.

Shape suffixes: N pairs.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from taiji.artifacts import read_json, write_json
from taiji.config import RankerSection
from taiji.errors import DataError, DivergenceError, MissingArtifactError
from taiji.ranking.calibration import Platt
from taiji.ranking.columns import microseconds
from taiji.ranking.inputs import (
    NO_LANGUAGE,
    Inputs,
    LanguageFeatures,
    Vocabulary,
    fit_vocabularies,
)
from taiji.ranking.model import CtcvrModel, Logits, ModelShape, esmm_loss
from taiji.ranking.pairs import DENSE, Pairs

Array = NDArray[np.float64]
OnStep = Callable[[int, int], None]

CALIBRATION_SHARE = 0.15
"""Latest share of the training impressions, kept for calibration."""

_WEIGHTS, _DESCRIPTION = "model.safetensors", "ranker.json"
_PREDICT_ROWS = 16_384
_FINAL_RATE = 0.05  # the learning rate falls linearly to this share of its start


@dataclass(frozen=True)
class Labels:
    """What happened to the impressions, and when."""

    click: NDArray[np.float32]
    conversion: NDArray[np.float32]
    ts: NDArray[np.int64]

    @classmethod
    def from_exposures(cls, exposures: pa.Table) -> "Labels":
        """Read the label columns of `schema.EXPOSURES`."""
        click, conversion = (
            exposures[name].to_numpy().astype(np.float32) for name in ("click", "conversion")
        )
        return cls(click, conversion, microseconds(exposures["ts"]))


@dataclass(frozen=True)
class Ranker:
    """A fitted ranking model with all that predicting needs.

    Attributes:
        model: The network.
        vocabularies: Values of each field, fitted on the training window.
        calibration: Of pCTCVR, fitted on the latest stretch of the training window.
        placement: The placement that training saw most, for pairs that never were shown.
    """

    model: CtcvrModel
    vocabularies: Mapping[str, Vocabulary]
    calibration: Platt
    placement: str


@dataclass(frozen=True)
class Predictions:
    """pCTR from the click tower, and pCTCVR after calibration."""

    ctr: Array
    ctcvr: Array


def fit_ranker(
    pairs: Pairs,
    labels: Labels,
    section: RankerSection,
    *,
    seed: int,
    language: LanguageFeatures = NO_LANGUAGE,
    on_step: OnStep | None = None,
) -> Ranker:
    """Train on all impressions but the latest, calibrate on those.

    Args:
        pairs: As-of features of the impressions.
        labels: Their outcomes.
        section: Sizes and training settings.
        seed: Of the initial weights and of the order of batches.
        language: Features by user, cut to the blocks that the arm may see.
        on_step: Called with steps done and steps in all.

    Raises:
        DataError: The training stretch holds no click, or no conversion, or nothing else.
        DivergenceError: The loss is NaN or infinite.
    """
    train, tail = _split_by_time(labels.ts)
    vocabularies = fit_vocabularies(pairs.take(train), section.own_items)
    inputs = Inputs(pairs, vocabularies, section.own_items, language)
    shape = ModelShape(
        num_dense=len(DENSE),
        field_rows=tuple(map(len, vocabularies.values())),
        l3_field=list(vocabularies).index("l3"),
        num_codes=language.num_codes,
        sub_codes=language.codes.shape[1],
        own_items=section.own_items,
        neighbour_items=language.neighbour_items.shape[1],
        dim=section.dim,
        hidden=section.hidden,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CtcvrModel(shape)
    _start_from(model, pairs.dense[train], labels, train)
    _train(model, inputs, labels, train, section, seed, on_step)
    logits = _to_float64(_all_logits(model, inputs, tail).ctcvr_logit())
    both = (labels.click * labels.conversion)[tail].astype(np.float64)
    placements = pairs.fields["placement"]
    most_common = placements.levels[int(np.bincount(placements.codes).argmax())]
    return Ranker(model, vocabularies, Platt.fit(logits, both), most_common)


def predict(ranker: Ranker, pairs: Pairs, language: LanguageFeatures = NO_LANGUAGE) -> Predictions:
    """pCTR and calibrated pCTCVR of each pair.

    Raises:
        DataError: The language features have not the blocks that the model was trained with.
        DivergenceError: A prediction is NaN or infinite.
    """
    shape = ranker.model.shape
    given = (language.codes.shape[1], language.num_codes, language.neighbour_items.shape[1])
    if given != (shape.sub_codes, shape.num_codes, shape.neighbour_items):
        raise DataError(
            f"ranking model: language features of shape {given} (codes, values, neighbour items), "
            f"trained with {(shape.sub_codes, shape.num_codes, shape.neighbour_items)}"
        )
    inputs = Inputs(pairs, ranker.vocabularies, shape.own_items, language)
    logits = _all_logits(ranker.model, inputs, np.arange(len(pairs)))
    ctr_N = _to_float64(torch.sigmoid(logits.ctr))
    ctcvr_N = ranker.calibration.apply(_to_float64(logits.ctcvr_logit()))
    if not (np.isfinite(ctr_N).all() and np.isfinite(ctcvr_N).all()):
        raise DivergenceError("ranking model: a prediction is NaN or infinite")
    return Predictions(ctr_N, ctcvr_N)


def save_ranker(ranker: Ranker, folder: Path) -> None:
    """Write weights as safetensors and all else as JSON into a new or existing folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(ranker.model.state_dict(), folder / _WEIGHTS)
    description = {
        "shape": dataclasses.asdict(ranker.model.shape),
        "dense": DENSE,
        "vocabularies": [[name, list(v.values)] for name, v in ranker.vocabularies.items()],
        "calibration": dataclasses.asdict(ranker.calibration),
        "placement": ranker.placement,
    }
    write_json(description, folder / _DESCRIPTION)


def load_ranker(folder: Path) -> Ranker:
    """Read what `save_ranker` wrote.

    Raises:
        MissingArtifactError: A file is not there.
        DataError: A file is damaged or was written for other features.
    """
    description = read_json(folder / _DESCRIPTION)
    if not (folder / _WEIGHTS).is_file():
        raise MissingArtifactError(f"{folder / _WEIGHTS}: not there: rerun the stage")
    try:
        return _rebuild(description, load_file(folder / _WEIGHTS))
    except (KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise DataError(f"{folder}: not a ranking model ({error}): rerun the stage") from error


def _rebuild(description: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> Ranker:
    if tuple(description["dense"]) != DENSE:
        raise DataError("ranking model: trained on other dense features: rerun the stage")
    shape = dict(description["shape"])
    shape["field_rows"], shape["hidden"] = tuple(shape["field_rows"]), tuple(shape["hidden"])
    model = CtcvrModel(ModelShape(**shape))
    model.load_state_dict(weights)
    vocabularies = {name: Vocabulary(tuple(values)) for name, values in description["vocabularies"]}
    calibration = Platt(**description["calibration"])
    return Ranker(model, vocabularies, calibration, description["placement"])


def _split_by_time(ts_N: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows before, and rows at or after, the moment that leaves the calibration share."""
    border = np.quantile(ts_N, 1 - CALIBRATION_SHARE, method="higher")
    late = ts_N >= border
    return np.flatnonzero(~late), np.flatnonzero(late)


def _start_from(
    model: CtcvrModel, dense_NF: NDArray[np.float32], labels: Labels, train: NDArray[np.int64]
) -> None:
    """Standardise the dense features and begin both towers at their base rates."""
    click, conversion = labels.click[train], labels.conversion[train]
    clicks, conversions = float(click.sum()), float((click * conversion).sum())
    if not (0 < conversions < clicks < click.size):
        raise DataError(
            f"ranking model: {click.size} impressions, {clicks:.0f} clicks, {conversions:.0f} "
            "conversions to train on: each must be more than the next, and the last above 0; "
            "raise data.exposure_share"
        )
    mean, deviation = dense_NF.mean(axis=0, dtype=np.float64), dense_NF.std(axis=0)
    with torch.no_grad():
        model.dense_mean.copy_(torch.from_numpy(mean))
        model.dense_scale.copy_(torch.from_numpy(1 / np.maximum(deviation, 1e-3)))
        for tower, rate in ((model.ctr, clicks / click.size), (model.cvr, conversions / clicks)):
            last = tower[-1]
            assert isinstance(last, torch.nn.Linear)
            last.bias.fill_(float(np.log(rate / (1 - rate))))


def _train(
    model: CtcvrModel,
    inputs: Inputs,
    labels: Labels,
    train: NDArray[np.int64],
    section: RankerSection,
    seed: int,
    on_step: OnStep | None,
) -> None:
    click, conversion = torch.from_numpy(labels.click), torch.from_numpy(labels.conversion)
    optimizer = torch.optim.Adam(model.parameters(), lr=section.learning_rate, fused=True)
    steps = section.epochs * -(-train.size // section.batch_size)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, _FINAL_RATE, total_iters=steps)
    random = np.random.default_rng(seed)
    step = 0
    for _ in range(section.epochs):
        order = random.permutation(train)
        for begin in range(0, order.size, section.batch_size):
            rows = order[begin : begin + section.batch_size]
            loss = esmm_loss(model(inputs.batch(rows)), click[rows], conversion[rows])
            step += 1
            if not torch.isfinite(loss):
                raise DivergenceError(f"ranking model: loss is {loss.item()} at step {step}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if on_step is not None:
                on_step(step, steps)


def _all_logits(model: CtcvrModel, inputs: Inputs, rows: NDArray[np.int64]) -> Logits:
    """Logits of many pairs, in pieces."""
    with torch.inference_mode():
        pieces = [
            model(inputs.batch(rows[begin : begin + _PREDICT_ROWS]))
            for begin in range(0, rows.size, _PREDICT_ROWS)
        ]
        return Logits(
            torch.cat([piece.ctr for piece in pieces] or [torch.empty(0)]),
            torch.cat([piece.cvr for piece in pieces] or [torch.empty(0)]),
        )


def _to_float64(tensor: torch.Tensor) -> Array:
    return np.asarray(tensor, dtype=np.float64)
