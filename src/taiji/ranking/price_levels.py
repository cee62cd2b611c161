"""Prices as geometric means, in sums of whole numbers: exact in whatever order they are added."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taiji.arrays import Array, Ints

_UNIT = 1e-6  # logs of prices are summed as whole millionths


def log_prices(interactions: pa.Table) -> dict[str, Ints]:
    """Whether a line has a price, and its log as whole units."""
    price = np.nan_to_num(np.asarray(interactions["price"], dtype=np.float64))
    log_price = np.log(np.where(price > 0, price, 1.0)) / _UNIT
    return {
        "priced": (price > 0).astype(np.int64),
        "log_price": np.rint(log_price).astype(np.int64),
    }


def price_level(sums: Mapping[str, Ints]) -> tuple[Array, NDArray[np.bool_]]:
    """Log of the geometric mean price, and whether there is any."""
    known = sums["priced"] > 0
    return sums["log_price"] * _UNIT / np.maximum(sums["priced"], 1), known
