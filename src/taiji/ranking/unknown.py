"""Clicks of unknown conversion, for models that cannot be told what is expected of them.

Shape suffixes: N impressions.
"""

import numpy as np
from numpy.typing import NDArray

from taiji.arrays import Ints


def known_weights(
    click_N: NDArray[np.float32], unknown_N: NDArray[np.bool_], rows: Ints
) -> NDArray[np.float32]:
    """Clicks of unknown conversion count for nothing, and of the non-clicks the same share.

    Only so do conversions stay as frequent as they are. Where some advertisers report less than
    others, trees that know them apart still see the silent ones as bad; the network does not.
    """
    clicked = click_N[rows] > 0
    share = 1 - unknown_N[rows].sum() / max(clicked.sum(), 1)
    return np.where(clicked, ~unknown_N[rows], share).astype(np.float32)


def drawn_by_weight(
    click_N: NDArray[np.float32], unknown_N: NDArray[np.bool_], rows: Ints, seed: int
) -> NDArray[np.bool_]:
    """Rows to calibrate on, drawn as `known_weights` weighs them."""
    chance = np.random.default_rng((seed, 4)).random(rows.size)
    return chance < known_weights(click_N, unknown_N, rows)
