"""The columns that value heads read of a conversion: numbers, and what its like was worth.

Of each field of the item (the item itself, its categories, its brand) the mean log-value that its
other conversions had in training stands in the place of the word.

Shape suffixes: N rows, F columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taiji.arrays import Array
from taiji.ranking.columns import Coded
from taiji.ranking.pairs import Pairs

_FIELDS = ("item", "l1", "l2", "l3", "brand")
_PRIOR_ROWS = 5.0  # rows by which a field's mean is drawn to that of all


@dataclass(frozen=True)
class FieldMeans:
    """Mean log(1 + value) of the rows of each word of each field, drawn to the mean of all."""

    overall: float
    means: Mapping[str, Mapping[str, float]]

    @classmethod
    def fit(cls, fields: Mapping[str, Coded], log_value_N: Array) -> "FieldMeans":
        """From the rows of training."""
        overall = float(log_value_N.mean())
        means = {}
        for name in _FIELDS:
            code_N, levels = fields[name].codes, fields[name].levels
            sums, counts = _sums(code_N, log_value_N, len(levels))
            mean = (sums + _PRIOR_ROWS * overall) / (counts + _PRIOR_ROWS)
            seen = np.flatnonzero(counts)
            means[name] = {levels[code]: float(mean[code]) for code in seen}
        return cls(overall, means)

    def columns(self, fields: Mapping[str, Coded]) -> Array:
        """(N, 5); the mean of all for words that training had not."""
        columns = []
        for name in _FIELDS:
            known = self.means[name]
            table = np.array([*(known.get(w, self.overall) for w in fields[name].levels), 0.0])
            table[-1] = self.overall  # a code of -1 lands here: null
            columns.append(table[fields[name].codes])
        return np.stack(columns, axis=1)


def own_columns(fields: Mapping[str, Coded], log_value_N: Array) -> Array:
    """(N, 5) for training: the mean of each word's *other* rows, or a row would see itself."""
    overall, columns = float(log_value_N.mean()), []
    for name in _FIELDS:
        code_N = fields[name].codes
        sums, counts = _sums(code_N, log_value_N, len(fields[name].levels))
        others, rest = sums[code_N] - log_value_N, counts[code_N] - 1
        mean_N = (others + _PRIOR_ROWS * overall) / (rest + _PRIOR_ROWS)
        columns.append(np.where(code_N < 0, overall, mean_N))
    return np.stack(columns, axis=1)


def _sums(code_N: NDArray[np.int32], value_N: Array, num: int) -> tuple[Array, Array]:
    seen = code_N >= 0
    counts = np.bincount(code_N[seen], minlength=max(num, 1)).astype(np.float64)
    sums: Array = np.bincount(code_N[seen], value_N[seen], max(num, 1)).astype(np.float64)
    return sums, counts


@dataclass(frozen=True)
class Standard:
    """Columns in standard deviations from their means, held within 5 of them."""

    mean_F: Array
    scale_F: Array

    @classmethod
    def fit(cls, x_NF: Array) -> "Standard":
        """From the rows of training."""
        return cls(x_NF.mean(axis=0), np.maximum(x_NF.std(axis=0), 1e-6))

    def apply(self, x_NF: Array) -> Array:
        """The same columns of any rows."""
        return np.clip((x_NF - self.mean_F) / self.scale_F, -5, 5)


def value_columns(pairs: Pairs, means_NM: Array) -> Array:
    """(N, F): the dense as-of features, then the fields' means."""
    return np.concatenate([pairs.dense.astype(np.float64), means_NM], axis=1)
