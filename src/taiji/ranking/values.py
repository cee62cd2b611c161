"""What a conversion is worth: E[value | conversion], a skewed number, by one of four heads.

- `tweedie`: LightGBM with Tweedie's loss (extra `lightgbm`).
- `ziln`: zero-inflated log-normal (arXiv 1912.07753), a small network: the chance of 0, and mean
  and deviation of the logarithm; E = p exp(mu + sigma^2 / 2).
- `bins`: one softmax over bins of log(1 + y), each worth the mean of its training rows; ours, the
  baseline that `rq` was to beat and did not.
- `rq`: residual codes (`taiji.ranking.residual_codes`).

All read the same columns: the dense as-of features, and for each field of the item the mean
log-value that its other conversions had in training. A last factor sets the mean of the training
rows right.

Shape suffixes: N rows, F columns.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from taiji.arrays import Array
from taiji.config import ValueSection
from taiji.errors import DataError, MissingArtifactError
from taiji.ranking.gradient_boosting import lightgbm_library
from taiji.ranking.pairs import Pairs
from taiji.ranking.residual_codes import (
    UNITS,
    RqNetwork,
    descend,
    encoder,
    expected_values,
    fit_centres,
    fit_rq,
    most_codes,
    nearest,
    residual_codes,
)
from taiji.ranking.value_columns import FieldMeans, Standard, own_columns, value_columns
from taiji.store.files import digest_file, read_json, replacing, write_json

if TYPE_CHECKING:
    import lightgbm  # an extra, and slow to import

FEWEST_VALUES = 100
_MOST_SIGMA = 3.0
_DESCRIPTION, _WEIGHTS, _TREES = "value.json", "value.safetensors", "value.txt"


class ZilnNetwork(nn.Module):
    """Log-odds of a value above 0, mean and deviation of its logarithm."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.encoder = encoder(num_features)
        self.head = nn.Linear(UNITS, 3)

    def forward(self, features_BF: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logit, mu and sigma, (B,) each."""
        logit, mean, raw = self.head(self.encoder(features_BF)).unbind(dim=1)
        return logit, mean, functional.softplus(raw).clamp(1e-3, _MOST_SIGMA)


def ziln_loss(logit_B: Tensor, mean_B: Tensor, sigma_B: Tensor, value_B: Tensor) -> Tensor:
    """BCE(y > 0) + 1[y > 0] (log y + log sigma + (log y - mu)^2 / (2 sigma^2) + log(2 pi) / 2)."""
    is_some_B = (value_B > 0).float()
    log_B = torch.where(value_B > 0, value_B, 1.0).log()
    normal_B = log_B + sigma_B.log() + ((log_B - mean_B) / sigma_B).square() / 2
    likelihood_B = is_some_B * (normal_B + math.log(2 * math.pi) / 2)
    return functional.binary_cross_entropy_with_logits(logit_B, is_some_B) + likelihood_B.mean()


def ziln_mean(logit_B: Tensor, mean_B: Tensor, sigma_B: Tensor) -> Tensor:
    """E[y] = p exp(mu + sigma^2 / 2)."""
    return torch.sigmoid(logit_B) * torch.exp(mean_B + sigma_B.square() / 2)


class BinsNetwork(nn.Module):
    """Logits of the bins; about as many weights as `RqNetwork` has."""

    def __init__(self, num_features: int, num_bins: int) -> None:
        super().__init__()
        self.encoder = encoder(num_features)
        self.head = nn.Sequential(
            nn.Linear(UNITS, 3 * UNITS),
            nn.ReLU(),
            nn.Linear(3 * UNITS, UNITS),
            nn.ReLU(),
            nn.Linear(UNITS, num_bins),
        )

    def forward(self, features_BF: Tensor) -> Tensor:
        """(B, bins)."""
        logits: Tensor = self.head(self.encoder(features_BF))
        return logits


Network = ZilnNetwork | BinsNetwork | RqNetwork


@dataclass(frozen=True)
class ValueRegressor:
    """A fitted head over columns of numbers.

    Attributes:
        standard: Of the columns.
        network: Of `ziln`, `bins` and `rq`; None for trees.
        booster: Of `tweedie`; None for networks.
        centres: Of the codes of `rq`, by level; of `bins`, what each is worth.
        factor: Sets the mean right.
    """

    section: ValueSection
    standard: Standard
    network: Network | None
    booster: "lightgbm.Booster | None"
    centres: tuple[Array, ...] = ()
    factor: float = 1.0

    def predict(self, x_NF: Array) -> Array:
        """E[value], (N,), 0 or more."""
        features_NF = self.standard.apply(x_NF)
        match self.network:
            case RqNetwork() as network:
                found_N = expected_values(network, features_NF, self.centres)
            case BinsNetwork() as network:
                with torch.inference_mode():
                    logits_NK = network(torch.from_numpy(features_NF).float())
                found_N = logits_NK.softmax(1).double().numpy() @ self.centres[0]
            case ZilnNetwork() as network:
                with torch.inference_mode():
                    found_N = ziln_mean(*network(torch.from_numpy(features_NF).float())).numpy()
            case _:
                assert self.booster is not None, "trees or a network"
                found_N = np.asarray(self.booster.predict(features_NF, num_threads=1))
        return np.maximum(found_N.astype(np.float64) * self.factor, 0.0)


def fit_values(x_NF: Array, value_N: Array, section: ValueSection, seed: int) -> ValueRegressor:
    """Fit the head of a section.

    Raises:
        DataError: There are too few values, a value is below 0 or not finite, or all are 0.
        DivergenceError: A loss is NaN or infinite.
        EngineError: `tweedie` is asked for and LightGBM is not installed.
    """
    if value_N.size < FEWEST_VALUES or not value_N.any():
        raise DataError(
            f"value head: {value_N.size} conversions of known value, {int((value_N > 0).sum())} "
            f"above 0: at least {FEWEST_VALUES} are needed: raise data.exposure_share"
        )
    if not (np.isfinite(value_N).all() and value_N.min() >= 0):
        raise DataError("value head: a value is below 0 or not finite: mend the column of values")
    value_N = np.array(value_N, dtype=np.float64)  # of Arrow, it could not be written to
    standard = Standard.fit(x_NF)
    features_NF, log_N = standard.apply(x_NF), np.log1p(value_N)
    network: Network | None = None
    booster: lightgbm.Booster | None = None
    centres: tuple[Array, ...] = ()
    match section.kind:
        case "tweedie":
            booster = _grow(features_NF, value_N, section, seed)
        case "ziln":
            network = _fit_ziln(features_NF, value_N, section, seed)
        case "bins":
            network, worth_K = _fit_bins(features_NF, value_N, section, seed)
            centres = (worth_K,)
        case "rq":
            codes = residual_codes(value_N, section.rq.levels, section.rq.codes)
            centred_N = (log_N - log_N.mean()) / max(float(log_N.std()), 1e-6)
            network, centres = (
                fit_rq(features_NF, centred_N, codes, section.rq, seed),
                codes.centres,
            )
    head = ValueRegressor(section, standard, network, booster, centres)
    found = float(head.predict(x_NF).mean())
    factor = float(value_N.mean()) / found if found > 0 else 1.0
    return ValueRegressor(section, standard, network, booster, centres, factor)


def _fit_ziln(x_NF: Array, value_N: Array, section: ValueSection, seed: int) -> ZilnNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ZilnNetwork(x_NF.shape[1])
    generator = torch.Generator().manual_seed(seed)
    x, value = torch.from_numpy(x_NF).float(), torch.from_numpy(value_N).float()

    def loss_of(rows: Tensor, _: float) -> Tensor:
        logit_B, mean_B, sigma_B = network(x[rows])
        return ziln_loss(logit_B, mean_B, sigma_B, value[rows])

    descend(network, len(x), section.rq.epochs, section.rq.learning_rate, generator, loss_of)
    return network


def _fit_bins(
    x_NF: Array, value_N: Array, section: ValueSection, seed: int
) -> tuple[BinsNetwork, Array]:
    """The network, and what each bin is worth: the mean of its rows."""
    log_N = np.log1p(value_N)
    centres_K = fit_centres(log_N, most_codes(section.bins, value_N.size), medians=True)
    bin_N = nearest(log_N, centres_K)
    rows_K = np.bincount(bin_N, minlength=centres_K.size)
    worth_K = np.bincount(bin_N, value_N, centres_K.size) / np.maximum(rows_K, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = BinsNetwork(x_NF.shape[1], centres_K.size)
    generator = torch.Generator().manual_seed(seed)
    x, bins = torch.from_numpy(x_NF).float(), torch.from_numpy(bin_N)

    def loss_of(rows: Tensor, _: float) -> Tensor:
        return functional.cross_entropy(network(x[rows]), bins[rows])

    descend(network, len(x), section.rq.epochs, section.rq.learning_rate, generator, loss_of)
    return network, worth_K


def _grow(x_NF: Array, value_N: Array, section: ValueSection, seed: int) -> "lightgbm.Booster":
    library = lightgbm_library()
    settings = {
        "objective": "tweedie",
        "tweedie_variance_power": section.tweedie_power,
        "learning_rate": 0.05,
        "num_leaves": 15,
        "min_data_in_leaf": 20,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    return library.train(settings, library.Dataset(x_NF, label=value_N), section.trees)


@dataclass(frozen=True)
class ValueHead:
    """E[value | conversion] of pairs.

    Attributes:
        means: Of the items' fields.
        regressor: Over the dense features and those means.
    """

    means: FieldMeans
    regressor: ValueRegressor

    def predict(self, pairs: Pairs) -> Array:
        """E[value | conversion] of each pair, in the log's currency."""
        return self.regressor.predict(value_columns(pairs, self.means.columns(pairs.fields)))

    def save(self, folder: Path) -> None:
        """Write weights as safetensors or trees as text, and all else as JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        one = self.regressor
        description: dict[str, Any] = {
            "section": one.section.model_dump(mode="json"),
            "overall": self.means.overall,
            "means": {name: dict(of) for name, of in self.means.means.items()},
            "mean": one.standard.mean_F.tolist(),
            "scale": one.standard.scale_F.tolist(),
            "centres": [centres.tolist() for centres in one.centres],
            "factor": one.factor,
        }
        if one.network is not None:
            save_file(one.network.state_dict(), folder / _WEIGHTS)
        else:
            assert one.booster is not None, "trees or a network"
            with replacing(folder / _TREES) as temporary:
                temporary.write_text(one.booster.model_to_string(), encoding="utf-8")
            description["digest"] = digest_file(folder / _TREES)
        write_json(description, folder / _DESCRIPTION)


def fit_value_head(pairs: Pairs, value_N: Array, section: ValueSection, seed: int) -> ValueHead:
    """Fit on conversions whose value is known.

    Args:
        pairs: Those conversions.
        value_N: What each was worth.
        section: Which head.
        seed: Of all randomness.

    Raises:
        DataError: As `fit_values`.
    """
    log_N = np.log1p(np.maximum(value_N, 0))
    x_NF = value_columns(pairs, own_columns(pairs.fields, log_N))
    return ValueHead(FieldMeans.fit(pairs.fields, log_N), fit_values(x_NF, value_N, section, seed))


def load_value_head(folder: Path) -> ValueHead:
    """Read what `ValueHead.save` wrote.

    Raises:
        MissingArtifactError: A file is not there.
        DataError: A file is damaged.
        EngineError: It is of LightGBM, which is not installed.
    """
    told = read_json(folder / _DESCRIPTION)
    try:
        section = ValueSection.model_validate(told["section"])
        centres = tuple(np.array(of, dtype=np.float64) for of in told["centres"])
        mean_F, scale_F = (np.array(told[name], dtype=np.float64) for name in ("mean", "scale"))
        network, booster = _load_model(folder, section, mean_F.size, centres, told)
        standard = Standard(mean_F, scale_F)
        regressor = ValueRegressor(
            section, standard, network, booster, centres, float(told["factor"])
        )
        return ValueHead(FieldMeans(float(told["overall"]), told["means"]), regressor)
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        if isinstance(error, DataError | MissingArtifactError):
            raise
        raise DataError(f"{folder}: not a value head ({error}): rerun the stage") from error


def _load_model(
    folder: Path,
    section: ValueSection,
    num_features: int,
    centres: tuple[Array, ...],
    told: Mapping[str, Any],
) -> "tuple[Network | None, lightgbm.Booster | None]":
    if section.kind == "tweedie":
        path = folder / _TREES
        if not path.is_file() or digest_file(path) != told["digest"]:
            raise DataError(f"{path}: is not the file that was written: rerun the stage")
        return None, lightgbm_library().Booster(model_str=path.read_text(encoding="utf-8"))
    if not (folder / _WEIGHTS).is_file():
        raise MissingArtifactError(f"{folder / _WEIGHTS}: not there: rerun the stage")
    network: Network
    match section.kind:
        case "ziln":
            network = ZilnNetwork(num_features)
        case "bins":
            network = BinsNetwork(num_features, centres[0].size)
        case "rq":
            network = RqNetwork(num_features, tuple(map(len, centres)))
    network.load_state_dict(load_file(folder / _WEIGHTS))
    return network, None
