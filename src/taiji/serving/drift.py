"""Whether users still fall on the codes as they did when the codebook was trained.

Shape suffixes: M codes of a user, C values of a code.
"""

import numpy as np
from numpy.typing import NDArray

from taiji.arrays import Array

_HALF_LIFE_USERS = 5000
LEAST_USERS = 200
"""Of fewer users chance alone makes a high PSI."""


def population_stability(expected_MC: Array, actual_MC: Array) -> float:
    """PSI = sum_c (a_c - e_c) ln(a_c / e_c) over the shares of each code, averaged over codes.

    Below 0.1 nothing has moved, above 0.25 much has. Half a user is added to every value, so that
    one that was never seen counts and is not infinite.

    Args:
        expected_MC: Users by code and value when the codebook was trained.
        actual_MC: The same of now.
    """
    shares = []
    for counts_MC in (expected_MC, actual_MC):
        smoothed_MC = counts_MC + 0.5
        shares.append(smoothed_MC / smoothed_MC.sum(axis=1, keepdims=True))
    expected, actual = shares
    return float(((actual - expected) * np.log(actual / expected)).sum(axis=1).mean())


def count_codes(codes_NM: NDArray[np.int32], num_codes: int) -> Array:
    """Users by code and value (M, C); -1, the code of the missing, is left out."""
    counted = [np.bincount(column[column >= 0], minlength=num_codes) for column in codes_NM.T]
    return np.array(counted, dtype=np.float64)


class CodeDrift:
    """Codes of late, the older the less they count.

    Args:
        expected_MC: Users by code and value when the codebook was trained.
    """

    def __init__(self, expected_MC: Array) -> None:
        self._expected = expected_MC
        self._recent = np.zeros_like(expected_MC)

    def add(self, codes_NM: NDArray[np.int32]) -> None:
        """These users got these codes."""
        self._recent *= 0.5 ** (len(codes_NM) / _HALF_LIFE_USERS)
        self._recent += count_codes(codes_NM, self._expected.shape[1])

    @property
    def psi(self) -> float | None:
        """PSI of late; None as long as too few users came by."""
        if self._recent.sum(axis=1).min(initial=np.inf) < LEAST_USERS:
            return None
        return population_stability(self._expected, self._recent)
