"""Gradient boosting as a second ranking model (LightGBM, extra `lightgbm`).

Another class of model with other mistakes: a lift that it shares with the network is not a
quirk of either, and as a gold judge it cannot be fooled by what fools the network. Two models
learn from all impressions, one from clicks and one from clicks that convert (the first alone
where the click is the goal); each is calibrated like the network, on visits that it did not
learn from. As pCTCVR is not a product here, it is held at pCTR where it would exceed it.

Shape suffixes: N pairs, W columns.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from taiji.config import BoostingSection
from taiji.errors import DataError, DivergenceError, EngineError, MissingArtifactError
from taiji.ranking.as_of import DENSE
from taiji.ranking.calibration import Platt, held_out
from taiji.ranking.descent import OnStep
from taiji.ranking.inputs import LanguageFeatures, Vocabulary, fit_vocabularies
from taiji.ranking.pairs import Pairs
from taiji.ranking.train import Labels, Predictions
from taiji.ranking.tree_inputs import block_widths, categorical_columns, tree_columns
from taiji.ranking.unknown import drawn_by_weight, known_weights
from taiji.store.files import digest_file, read_json, replacing, write_json

if TYPE_CHECKING:
    import lightgbm  # an extra, and slow to import

_DESCRIPTION = "boosting.json"
_TASKS = ("click", "both")
_SAMPLED = 0.8  # of the rows and columns, for each tree
_THREADS = 2
_DATASET = {
    "verbosity": -1,
    "num_threads": _THREADS,
    "deterministic": True,
    "force_row_wise": True,
    "feature_pre_filter": False,
}


@dataclass(frozen=True)
class CalibratedTrees:
    """One of the two models: its trees as LightGBM's own text, and its calibration."""

    booster: "lightgbm.Booster"
    calibration: Platt

    def probabilities(self, columns_NW: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated probabilities.

        Raises:
            DivergenceError: A score is NaN or infinite.
        """
        logits_N = _logits(self.booster, columns_NW)
        if not np.isfinite(logits_N).all():
            raise DivergenceError("gradient boosting: a score is not finite")
        return self.calibration.apply(logits_N)


@dataclass(frozen=True)
class BoostedRanker:
    """A fitted pair of models with all that predicting needs.

    Attributes:
        click: P(click).
        both: P(click and conversion); None where the click is the goal.
        vocabularies: Values of each field, fitted on the visits it learned from.
        widths: Of the language blocks, by `block_widths`.
        placement: The placement that training saw most, for pairs that never were shown.
    """

    click: CalibratedTrees
    both: CalibratedTrees | None
    vocabularies: Mapping[str, Vocabulary]
    widths: tuple[int, ...]
    placement: str

    def predict(self, pairs: Pairs, language: LanguageFeatures) -> Predictions:
        """Calibrated pCTR and pCTCVR of each pair.

        Raises:
            DataError: The language features have not the blocks that training saw.
            DivergenceError: A score is NaN or infinite.
        """
        if block_widths(language) != self.widths:
            raise DataError(
                f"gradient boosting: language features of shape {block_widths(language)} (codes, "
                f"values, neighbour items, vector, match), trained with {self.widths}"
            )
        columns_NW = tree_columns(pairs, self.vocabularies, language)
        ctr_N = self.click.probabilities(columns_NW)
        if self.both is None:
            return Predictions(ctr_N, ctr_N)
        return Predictions(ctr_N, np.minimum(self.both.probabilities(columns_NW), ctr_N))

    def save(self, folder: Path) -> None:
        """Write both models as text, and beside them their digests and all else as JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        digests, calibration = {}, {}
        for name in _TASKS:
            task: CalibratedTrees | None = getattr(self, name)
            if task is None:
                continue
            with replacing(folder / f"{name}.txt") as temporary:
                temporary.write_text(task.booster.model_to_string(), encoding="utf-8")
            digests[name] = digest_file(folder / f"{name}.txt")
            calibration[name] = dataclasses.asdict(task.calibration)
        description = {
            "dense": DENSE,
            "vocabularies": [[name, list(v.values)] for name, v in self.vocabularies.items()],
            "widths": self.widths,
            "placement": self.placement,
            "digests": digests,
            "calibration": calibration,
        }
        write_json(description, folder / _DESCRIPTION)


@dataclass(frozen=True)
class GradientBoosting:
    """LightGBM before training.

    Raises:
        EngineError: LightGBM is not installed.
    """

    section: BoostingSection

    def __post_init__(self) -> None:  # noqa: D105
        lightgbm_library()

    def fit(
        self,
        pairs: Pairs,
        labels: Labels,
        *,
        seed: int,
        language: LanguageFeatures,
        on_step: OnStep | None = None,
    ) -> BoostedRanker:
        """Train both models on most visits, calibrate on the others.

        Raises:
            DataError: The visits to train on hold no click that converts, or nothing else.
        """
        if not len(pairs):
            raise DataError("gradient boosting: no impression to learn from: every user is taken")
        train, held = held_out(pairs.histories(), seed)
        seen = pairs.take(train)
        vocabularies = fit_vocabularies(seen, own_items=0)
        # The columns of most rows are gone once they are in bins; those held back are read later.
        dataset = _dataset(
            tree_columns(seen, vocabularies, language),
            categorical_columns(vocabularies, language),
            self.section,
        )
        del seen
        held_NW = tree_columns(pairs.take(held), vocabularies, language)
        tasks: list[CalibratedTrees | None] = []
        wanted = [labels.click, labels.click * labels.conversion]
        for number, labels_N in enumerate(wanted[:1] if labels.goal == "click" else wanted):
            if not 0 < labels_N[train].sum() < train.size:
                raise DataError(
                    f"gradient boosting: {labels_N[train].sum():.0f} {_TASKS[number]} in "
                    f"{train.size} impressions: nothing to learn; raise data.exposure_share"
                )
            dataset.set_label(labels_N[train])
            kept = np.ones(held.size, dtype=np.bool_)
            if number and labels.unknown is not None:
                dataset.set_weight(known_weights(labels.click, labels.unknown, train))
                kept = drawn_by_weight(labels.click, labels.unknown, held, seed)
            booster = self._train(dataset, seed, number, on_step)
            logits_N = _logits(booster, held_NW[kept])
            known_N = labels_N[held[kept]].astype(np.float64)
            tasks.append(CalibratedTrees(booster, Platt.fit(logits_N, known_N)))
        placements = pairs.fields["placement"]
        most_common = placements.levels[int(np.bincount(placements.codes).argmax())]
        click, both = [*tasks, None][:2]
        assert click is not None, "the click is always learned"
        return BoostedRanker(click, both, vocabularies, block_widths(language), most_common)

    def load(self, folder: Path) -> BoostedRanker:
        """Read what `BoostedRanker.save` wrote.

        Raises:
            MissingArtifactError: A file is not there.
            DataError: A file is damaged or was written for other features.
        """
        return load_boosted(folder)

    def _train(
        self, dataset: "lightgbm.Dataset", seed: int, number: int, on_step: OnStep | None
    ) -> "lightgbm.Booster":
        """Grow the trees of one task. Rows and columns are sampled, so that the seed decides."""
        rounds = self.section.rounds

        def report(state: Any) -> None:
            if on_step is not None:
                on_step(number * rounds + state.iteration + 1, len(_TASKS) * rounds)

        settings = _DATASET | {
            "objective": "binary",
            "learning_rate": self.section.learning_rate,
            "num_leaves": self.section.leaves,
            "min_data_in_leaf": self.section.min_leaf,
            "cat_smooth": self.section.category_rows,  # a value with fewer rows is passed over
            "bagging_fraction": _SAMPLED,
            "bagging_freq": 1,
            "feature_fraction": _SAMPLED,
            "seed": seed,
        }
        return lightgbm_library().train(
            settings, dataset, num_boost_round=rounds, callbacks=[report]
        )


def load_boosted(folder: Path) -> BoostedRanker:
    """Read what `BoostedRanker.save` wrote; a model's text is opened once its digest is right.

    Raises:
        MissingArtifactError: A file is not there.
        DataError: A file is damaged or was written for other features.
        EngineError: LightGBM is not installed.
    """
    description = read_json(folder / _DESCRIPTION)
    try:
        if tuple(description["dense"]) != DENSE:
            raise DataError(f"{folder}: trained on other dense features: rerun the stage")
        click, *rest = (
            _load_task(folder, name, description)
            for name in _TASKS
            if name in description["digests"]
        )
        both = rest[0] if rest else None
        vocabularies = {
            name: Vocabulary(tuple(values)) for name, values in description["vocabularies"]
        }
        widths = tuple(int(width) for width in description["widths"])
        return BoostedRanker(click, both, vocabularies, widths, str(description["placement"]))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{folder}: not a ranking model ({error}): rerun the stage") from error


def _load_task(folder: Path, name: str, description: Mapping[str, Any]) -> CalibratedTrees:
    path = folder / f"{name}.txt"
    if not path.is_file():
        raise MissingArtifactError(f"{path}: not there: rerun the stage")
    if digest_file(path) != description["digests"][name]:
        raise DataError(f"{path}: is not the file that was written: rerun the stage")
    booster = lightgbm_library().Booster(model_str=path.read_text(encoding="utf-8"))
    return CalibratedTrees(booster, Platt(**description["calibration"][name]))


def lightgbm_library() -> Any:
    """The library; imported here, because it is an extra."""
    try:
        import lightgbm
    except ImportError as error:
        raise EngineError(
            "gradient boosting: LightGBM is not installed: pip install 'taiji-rec[lightgbm]'"
        ) from error
    return lightgbm


def _dataset(
    columns_NW: NDArray[np.float32], categorical: list[int], section: BoostingSection
) -> "lightgbm.Dataset":
    """Columns sorted into bins, once for both tasks."""
    settings = _DATASET | {"min_data_in_leaf": section.min_leaf}
    dataset = lightgbm_library().Dataset(
        columns_NW, categorical_feature=categorical, params=settings, free_raw_data=True
    )
    return dataset.construct()


def _logits(booster: "lightgbm.Booster", columns_NW: NDArray[np.float32]) -> NDArray[np.float64]:
    scores = booster.predict(columns_NW, raw_score=True, num_threads=_THREADS)
    return np.asarray(scores, dtype=np.float64)
