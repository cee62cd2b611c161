"""OneLoc's place reward by hand."""

import numpy as np
import pytest

from taiji.alignment.rewards.distance import (
    LEAST_KM,
    DistanceReward,
    haversine_km,
    usual_km,
    usual_places,
)
from taiji.alignment.rewards.reward import Rollout

BERLIN, PARIS = (52.52, 13.405), (48.8566, 2.3522)


def rollout(example, item):
    rung = "exact" if item else "none"
    return Rollout(example, "", "ok", "", item, rung, 1.0, 1.0, 1.0, 1.0)


def test_the_way_from_berlin_to_paris():
    # Half differences of 1.8317 and 5.5264 degrees, so a chord of .00102166 + .60840 x .65797 x
    # .00927472 = .00473439, and 2 x 6371.0088 x asin(sqrt(.00473439)) = 877.46 km.
    to = np.array([PARIS, BERLIN, (-52.52, 13.405 - 180)])
    found = haversine_km(np.array([BERLIN] * 3), to)
    assert found[0] == pytest.approx(877.46, abs=0.01)
    assert found[1] == 0
    assert found[2] == pytest.approx(np.pi * 6371.0088)  # the other end of the earth


def test_an_answer_earns_less_the_further_it_is_and_nothing_without_places():
    # One degree along a meridian is 6371.0088 pi / 180 = 111.195 km.
    reward = DistanceReward(
        {"e1": (10.0, 20.0)}, {"here": (10.0, 20.0), "there": (11.0, 20.0)}, 111.19508
    )
    answers = [("e1", "here"), ("e1", "there"), ("e1", "nowhere"), ("e1", None), ("e2", "here")]
    found = reward([rollout(*answer) for answer in answers], completions=[])
    assert found == pytest.approx([1.0, np.exp(-1), 0, 0, 0])
    assert reward([rollout("e2", "here")]) == [0.0]


def test_the_usual_place_is_the_median_of_each_component():
    owner = np.array([1, 0, 1, 1, 3, 3, 3])
    place = np.array([(1, 5), (9, 9), (2, 7), (30, 6), (0, 179), (2, -179), (4, -178.0)])
    found = usual_places(owner, place, 4)
    assert found[0] == pytest.approx([9, 9])
    assert found[1] == pytest.approx([2, 6])
    assert np.isnan(found[2]).all()  # was nowhere
    assert found[3] == pytest.approx([2, -179])  # beyond 180 degrees it goes on
    assert usual_places(owner[:1] - 1, np.array([(0.0, 1.0)]), 1)[0] == pytest.approx([0, 1])


def test_visits_are_as_far_as_usual_as_their_median_and_never_at_no_distance():
    # Of one user at 0, 1 and 5 degrees: the place is 1, the ways 1, 0 and 4 degrees.
    place = np.array([(0.0, 0.0), (1.0, 0.0), (5.0, 0.0)])
    assert usual_km(np.zeros(3, np.int64), place, 1) == pytest.approx(111.195, abs=1e-3)
    assert usual_km(np.arange(3), place, 3) == LEAST_KM
