import math

import numpy as np
import pytest

from taiji.serving.drift import CodeDrift, count_codes, population_stability


def test_psi_by_hand():
    # with half a user more each: shares 3/4, 1/4 against 1/4, 3/4
    expected, actual = np.array([[2.5, 0.5]]), np.array([[0.5, 2.5]])
    psi = (1 / 4 - 3 / 4) * math.log(1 / 3) + (3 / 4 - 1 / 4) * math.log(3)
    assert population_stability(expected, actual) == pytest.approx(psi)
    assert population_stability(expected, expected) == 0


def test_the_code_of_the_missing_is_not_counted():
    codes = np.array([[0, 1], [-1, -1], [0, 0]], dtype=np.int32)
    assert count_codes(codes, 2).tolist() == [[2, 0], [1, 1]]


def test_drift_is_said_once_enough_users_came_by_and_follows_them():
    drift = CodeDrift(np.array([[500.0, 500.0]]))
    even = np.array([[0], [1]] * 50, dtype=np.int32)
    drift.add(even)
    assert drift.psi is None
    for _ in range(4):
        drift.add(even)
    assert drift.psi < 0.01
    for _ in range(200):
        drift.add(np.zeros((100, 1), dtype=np.int32))
    assert drift.psi > 0.25
