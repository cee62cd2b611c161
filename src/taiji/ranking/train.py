"""Fit the ranking model, let it predict, keep it on disk.

Some visits of the training window are held out for calibration: the model never trains on them,
and the Platt parameters fitted there stay frozen. Same seed, same bits.

Shape suffixes: N pairs.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from taiji.arrays import Array, Ints
from taiji.config import RankerSection
from taiji.errors import DataError, DivergenceError, MissingArtifactError
from taiji.ranking.as_of import DENSE
from taiji.ranking.calibration import Calibration, Platt, held_out
from taiji.ranking.columns import microseconds
from taiji.ranking.descent import OnStep, TrainingSet, descend, thin, undo_thinning
from taiji.ranking.inputs import NO_LANGUAGE, Inputs, LanguageFeatures, Vocabulary, fit_vocabularies
from taiji.ranking.kaml import KindTargets, Reports, goals_of_items, kind_targets
from taiji.ranking.match import COLUMNS, LIKELIHOOD
from taiji.ranking.model import CtcvrModel, ModelShape
from taiji.ranking.pairs import Pairs
from taiji.schema import Goal
from taiji.store.files import read_json, write_json

_WEIGHTS, _DESCRIPTION = "model.safetensors", "ranker.json"
_PREDICT_ROWS = 16_384
_OF_KINDS = ("num_kinds", "split_towers")


@dataclass(frozen=True)
class Labels:
    """What happened to the impressions, and when.

    Attributes:
        conversion: All 1 where the click is the goal: every click has reached it.
        goal: What is predicted in the end.
        unknown: Clicks whose conversion nobody knows; there `conversion` is 0. None for none.
        reports: Of all kinds of conversion, where the log has several; `conversion` is then that
            of the advertiser's goal.
    """

    click: NDArray[np.float32]
    conversion: NDArray[np.float32]
    ts: NDArray[np.int64]
    goal: Goal = "conversion"
    unknown: NDArray[np.bool_] | None = None
    reports: Reports | None = None

    @classmethod
    def from_exposures(cls, exposures: pa.Table) -> "Labels":
        """Read the label columns of `schema.EXPOSURES`; no known conversion: the click is it.

        Columns of `schema.OUTCOMES` may stand beside them.
        """
        click = exposures["click"].to_numpy().astype(np.float32)
        conversion, ts = exposures["conversion"], microseconds(exposures["ts"])
        if 0 < exposures.num_rows == conversion.null_count:
            return cls(click, np.ones_like(click), ts, "click")
        unknown = (click > 0) & conversion.is_null().to_numpy()
        known = conversion.fill_null(0).to_numpy().astype(np.float32)
        reports = Reports.from_table(exposures) if "reported" in exposures.column_names else None
        return cls(click, known, ts, "conversion", unknown if unknown.any() else None, reports)


@dataclass(frozen=True)
class Ranker:
    """A fitted ranking model with all that predicting needs.

    Attributes:
        model: The network.
        vocabularies: Values of each field, fitted on the training window.
        calibration: Of both towers, fitted on visits that training did not see.
        placement: The placement that training saw most, for pairs that never were shown.
    """

    model: CtcvrModel
    vocabularies: Mapping[str, Vocabulary]
    calibration: Calibration
    placement: str


@dataclass(frozen=True)
class Predictions:
    """Calibrated pCTR and pCTCVR; the second is never above the first.

    Where the click is the goal, the second is the first.
    """

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
    """Train on most visits, calibrate on the others.

    Args:
        pairs: As-of features of the impressions.
        labels: Their outcomes.
        section: Sizes and training settings.
        seed: Of the initial weights and of the order of batches.
        language: Features by user, cut to the blocks that the arm may see.
        on_step: Called with steps done and steps in all.

    Raises:
        DataError: The visits to train on hold no click, or no conversion, or nothing else.
        DivergenceError: The loss is NaN or infinite.
    """
    train, held = held_out(pairs.histories(), seed)
    train = thin(train, labels.click, section.keep_negatives, seed)
    vocabularies = fit_vocabularies(pairs.take(train), section.own_items)
    inputs = Inputs(pairs, vocabularies, section.own_items, language)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CtcvrModel(_shape(vocabularies, section, language, labels))
    task = TrainingSet(
        inputs,
        inputs.dense,
        labels.click,
        labels.conversion,
        train,
        unknown=labels.unknown,
        kinds=_several_kinds(model, pairs, labels, section, vocabularies["item"]),
    )
    descend(model, task, section, seed, on_step)
    undo_thinning(model, section.keep_negatives)
    ctr, cvr = _all_logits(model, inputs, held)
    click = labels.click[held].astype(np.float64)
    unknown = None if labels.unknown is None else labels.unknown[held]
    calibration = Calibration.fit(ctr, cvr, click, click * labels.conversion[held], unknown)
    placements = pairs.fields["placement"]
    most_common = placements.levels[int(np.bincount(placements.codes).argmax())]
    return Ranker(model, vocabularies, calibration, most_common)


def _several_kinds(
    model: CtcvrModel, pairs: Pairs, labels: Labels, section: RankerSection, items: Vocabulary
) -> KindTargets | None:
    """What towers of several kinds learn from; they are told by which goal each item is served."""
    if model.kinds is None or section.kaml is None or labels.reports is None:
        return None
    shown = pairs.fields["item"]
    goals = goals_of_items(items.rows(shown.levels)[shown.codes], labels.reports.goal_N, len(items))
    model.kinds.goal_of_item.copy_(torch.from_numpy(goals))
    return kind_targets(labels.reports, section.kaml)


def predict(ranker: Ranker, pairs: Pairs, language: LanguageFeatures = NO_LANGUAGE) -> Predictions:
    """Calibrated pCTR and pCTCVR of each pair.

    Raises:
        DataError: The language features have not the blocks that the model was trained with.
        DivergenceError: A prediction is NaN or infinite.
    """
    shape = ranker.model.shape
    given = _blocks(language)
    trained = {name: getattr(shape, name) for name in given}
    if given != trained:
        raise DataError(f"ranking model: language features {given}, trained with {trained}")
    inputs = Inputs(pairs, ranker.vocabularies, shape.own_items, language)
    ctr, cvr = _all_logits(ranker.model, inputs, np.arange(len(pairs)))
    predictions = Predictions(*ranker.calibration.apply(ctr, cvr))
    if not (np.isfinite(predictions.ctr).all() and np.isfinite(predictions.ctcvr).all()):
        raise DivergenceError("ranking model: a prediction is NaN or infinite")
    return predictions


def save_ranker(ranker: Ranker, folder: Path) -> None:
    """Write weights as safetensors and all else as JSON into a new or existing folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(ranker.model.state_dict(), folder / _WEIGHTS)
    description = {
        "shape": _told(ranker.model.shape),
        "dense": (*DENSE, *COLUMNS, LIKELIHOOD)[: ranker.model.shape.num_dense],
        "vocabularies": [[name, list(v.values)] for name, v in ranker.vocabularies.items()],
        "calibration": dataclasses.asdict(ranker.calibration),
        "placement": ranker.placement,
    }
    write_json(description, folder / _DESCRIPTION)


def _told(shape: ModelShape) -> dict[str, Any]:
    """A shape as JSON; what only models of several kinds have is told of them alone."""
    told = dataclasses.asdict(shape)
    return {k: v for k, v in told.items() if shape.num_kinds or k not in _OF_KINDS}


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
    matched = (*DENSE, *COLUMNS)
    if tuple(description["dense"]) not in (DENSE, matched, (*matched, LIKELIHOOD)):
        raise DataError("ranking model: trained on other dense features: rerun the stage")
    shape = dict(description["shape"])
    shape["field_rows"], shape["hidden"] = tuple(shape["field_rows"]), tuple(shape["hidden"])
    model = CtcvrModel(ModelShape(**shape))
    model.load_state_dict(weights)
    vocabularies = {name: Vocabulary(tuple(values)) for name, values in description["vocabularies"]}
    parts = description["calibration"]
    conversion = parts["conversion"]
    calibration = Calibration(
        Platt(**parts["click"]), None if conversion is None else Platt(**conversion)
    )
    return Ranker(model, vocabularies, calibration, description["placement"])


def _shape(
    vocabularies: Mapping[str, Vocabulary],
    section: RankerSection,
    language: LanguageFeatures,
    labels: Labels,
) -> ModelShape:
    kinds: dict[str, Any] = {}
    if section.kaml is not None:
        if labels.reports is None:
            raise DataError(
                "ranker.kaml: the log has no kinds of conversion: map "
                "data.source.exposures.conversions and goal, or leave out ranker.kaml"
            )
        kinds["num_kinds"] = len(labels.reports.kinds)
        kinds["split_towers"] = section.kaml.split_towers
    return ModelShape(
        field_rows=tuple(map(len, vocabularies.values())),
        l3_field=list(vocabularies).index("l3"),
        own_items=section.own_items,
        attention=section.attention,
        dim=section.dim,
        hidden=section.hidden,
        goal=labels.goal,
        **kinds,
        **_blocks(language),
    )


def _blocks(language: LanguageFeatures) -> dict[str, Any]:
    """What a model's shape holds of the language features."""
    return {
        "num_dense": len(DENSE) + len(language.match_columns),
        "sub_codes": language.codes.shape[1],
        "num_codes": language.num_codes,
        "neighbour_items": language.neighbour_items.shape[1],
        "vector_width": language.vectors.shape[1],
    }


def _all_logits(model: CtcvrModel, inputs: Inputs, rows: Ints) -> tuple[Array, Array | None]:
    """Logits of the towers for many pairs, in pieces."""
    ctr = np.empty(rows.size)
    cvr = None if model.shape.goal == "click" else np.empty(rows.size)
    with torch.inference_mode():
        for begin in range(0, rows.size, _PREDICT_ROWS):
            piece = slice(begin, begin + _PREDICT_ROWS)
            logits = model(inputs.batch(rows[piece]))
            ctr[piece] = logits.ctr.numpy()
            if cvr is not None:
                cvr[piece] = logits.cvr.numpy()
    return ctr, cvr
