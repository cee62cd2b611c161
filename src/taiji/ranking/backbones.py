"""Ranking models behind one protocol: ours, gradient boosting, and any of the user's own.

A comparison says something of the language features only if it holds for more than one model.
`RankingModel` is all that `rank` asks of one; docs/ranking.md has an example.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from taiji.config import RankerSection
from taiji.errors import ConfigError, DivergenceError
from taiji.own_code import import_own
from taiji.ranking.descent import OnStep
from taiji.ranking.gradient_boosting import GradientBoosting
from taiji.ranking.inputs import LanguageFeatures
from taiji.ranking.pairs import Pairs
from taiji.ranking.train import (
    Labels,
    Predictions,
    Ranker,
    fit_ranker,
    load_ranker,
    predict,
    save_ranker,
)

_ROUNDING = 1e-6


class FittedModel(Protocol):
    """A ranking model after training."""

    def predict(self, pairs: Pairs, language: LanguageFeatures) -> Predictions:
        """pCTR and pCTCVR of each pair, in [0, 1]; the second is never above the first.

        Args:
            pairs: As-of features; values of a field may be new to the model.
            language: Features of the pairs' users, of the blocks that `fit` saw.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write into a folder that may be new; no pickle, so that loading runs no code."""
        ...


class RankingModel(Protocol):
    """A ranking model before training; its settings are its own affair."""

    def fit(
        self,
        pairs: Pairs,
        labels: Labels,
        *,
        seed: int,
        language: LanguageFeatures,
        on_step: OnStep | None,
    ) -> FittedModel:
        """Train on impressions and calibrate.

        Args:
            pairs: As-of features of the impressions, in the order of the labels.
            labels: Clicks, conversions and times.
            seed: Of all randomness; same seed, same predictions.
            language: Features by user; blocks that the arm may not see have width 0.
            on_step: To be called with steps done and steps in all, if given.
        """
        ...

    def load(self, folder: Path) -> FittedModel:
        """Read what `save` wrote."""
        ...


@dataclass(frozen=True)
class Network:
    """Our network: two towers over the entire space, target attention."""

    section: RankerSection

    def fit(
        self,
        pairs: Pairs,
        labels: Labels,
        *,
        seed: int,
        language: LanguageFeatures,
        on_step: OnStep | None,
    ) -> "FittedNetwork":
        """Train as `train.fit_ranker` does."""
        ranker = fit_ranker(
            pairs, labels, self.section, seed=seed, language=language, on_step=on_step
        )
        return FittedNetwork(ranker)

    def load(self, folder: Path) -> "FittedNetwork":
        """Read a network that was saved."""
        return FittedNetwork(load_ranker(folder))


@dataclass(frozen=True)
class FittedNetwork:
    """Our network after training."""

    ranker: Ranker

    def predict(self, pairs: Pairs, language: LanguageFeatures) -> Predictions:
        """pCTR and calibrated pCTCVR of each pair."""
        return predict(self.ranker, pairs, language)

    def save(self, folder: Path) -> None:
        """Write weights and vocabularies."""
        save_ranker(self.ranker, folder)


def build_backbones(names: Sequence[str], section: RankerSection) -> dict[str, RankingModel]:
    """The ranking models of `rank.backbones`, by name.

    Raises:
        ConfigError: A model of the user's own cannot be imported or made, or is none.
        EngineError: LightGBM is named and not installed.
    """
    return {name: _build(name, section, f"rank.backbones[{n}]") for n, name in enumerate(names)}


def _build(name: str, section: RankerSection, key: str) -> RankingModel:
    match name:
        case "network":
            return Network(section)
        case "lightgbm":
            return GradientBoosting(section.boosting)
        case _:
            return _own(name, key)


def _own(path: str, key: str) -> RankingModel:
    make = import_own(path, key)
    if not callable(make):
        raise ConfigError(f"{key}: {path}: holds a {type(make).__name__}: name a class")
    try:
        model: RankingModel = make()
    except Exception as error:  # the class is the user's: it may fail in any way
        raise ConfigError(
            f"{key}: {path}() failed: {type(error).__name__}: {error}: a ranking model is made "
            "without arguments"
        ) from error
    missing = [name for name in ("fit", "load") if not callable(getattr(model, name, None))]
    if missing:
        raise ConfigError(
            f"{key}: {path}: has no {' and no '.join(missing)}: see taiji.ranking.backbones."
            "RankingModel"
        )
    return model


def checked(predictions: Predictions, num_pairs: int, name: str) -> Predictions:
    """The predictions of any model, if they are probabilities, one a pair.

    Raises:
        DivergenceError: They are not, or pCTCVR is above pCTR.
    """
    for task, found in (("ctr", predictions.ctr), ("ctcvr", predictions.ctcvr)):
        values = np.asarray(found, dtype=np.float64)
        inside = values.shape == (num_pairs,) and bool(((values >= 0) & (values <= 1)).all())
        if not inside:  # NaN is not inside either
            raise DivergenceError(
                f"rank: {name}: {task} is not {num_pairs} probabilities (shape {values.shape}, "
                f"{np.min(values, initial=np.inf):g} to {np.max(values, initial=-np.inf):g}): "
                "mend its predict"
            )
    if above := int((predictions.ctcvr > predictions.ctr + _ROUNDING).sum()):
        raise DivergenceError(
            f"rank: {name}: ctcvr is above ctr for {above} of {num_pairs} pairs, and a click and "
            "a conversion cannot be likelier than a click: mend its predict"
        )
    return predictions
