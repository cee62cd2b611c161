import numpy as np
import pytest

from taiji.config import SimulateSection
from taiji.errors import DivergenceError
from taiji.ranking.admission import admit, constant_capture, constant_reward, shortcomings


def test_a_reward_that_is_blind_to_the_user_is_seen_through():
    user, item = np.array([1.0, 2.0, 4.0]), np.array([0.01, 0.02, 0.08])
    figures = admit(np.outer(user, item))
    assert figures.interaction_share == pytest.approx(0, abs=1e-12)
    assert figures.user_share + figures.item_share == pytest.approx(1)
    assert figures.constant_capture == pytest.approx(1)
    assert figures.num_best_items == 1


def test_a_reward_that_knows_everyone_apart():
    # each user has a favourite of their own: rows and columns have one mean
    figures = admit(np.full((4, 4), 0.1) + 0.4 * np.eye(4))
    assert figures.interaction_share == pytest.approx(1)
    assert figures.constant_capture == pytest.approx(0)
    assert figures.num_best_items == 4


def test_what_a_constant_answer_earns_by_hand():
    # Items earn 0.5 and 0.4 on average; the mean is 0.45; each user's best 0.9 and 0.6: 0.75.
    rewards = np.array([[0.9, 0.2], [0.1, 0.6]])
    assert constant_reward(rewards) == pytest.approx(0.5)
    assert constant_capture(rewards) == pytest.approx((0.5 - 0.45) / (0.75 - 0.45))


def test_a_reward_that_ignores_the_user_is_captured_whole():
    assert constant_capture(np.tile([0.1, 0.7, 0.3], (5, 1))) == pytest.approx(1)
    assert constant_capture(np.full((3, 2), 0.5)) == 1


def test_a_model_that_likes_all_items_alike_is_refused_and_not_divided_by():
    scores = np.outer([0.1, 0.2, 0.7], np.ones(7))  # users differ, items do not
    figures = admit(scores)
    assert figures.constant_capture == 1
    assert figures.num_best_items == 1
    missed = shortcomings(
        {**GOOD, "interaction_share": figures.interaction_share,
         "reward_constant_capture": constant_capture(scores), "reward_best_items": 1.0},
        SimulateSection(),
    )  # fmt: skip
    assert len(missed) == 3


@pytest.mark.parametrize(
    "scores", [np.full((3, 3), 0.2), np.zeros((2, 2)), np.full((2, 2), np.nan)]
)
def test_scores_that_cannot_rank_are_refused(scores):
    with pytest.raises(DivergenceError):
        admit(scores)


GOOD = {
    "interaction_share": 0.12,
    "reward_constant_capture": 0.8,
    "reward_best_items": 8,
    "ctcvr_gauc": 0.91,
    "ctcvr_gauc_popularity": 0.86,
}


def test_a_model_within_all_bounds_has_no_shortcoming():
    assert shortcomings(GOOD, SimulateSection()) == []


@pytest.mark.parametrize(
    ("figures", "named"),
    [
        ({"interaction_share": 0.04}, "min_interaction_share 0.05"),
        ({"reward_constant_capture": 0.96}, "max_constant_capture 0.95"),
        ({"reward_best_items": 2}, "min_best_items 3"),
        ({"ctcvr_gauc": 0.85}, "-0.010 from that of the items' popularity"),
    ],
)
def test_each_bound_is_named_when_it_is_missed(figures, named):
    (found,) = shortcomings(GOOD | figures, SimulateSection())
    assert named in found


def test_a_lead_that_is_not_known_does_not_admit():
    unknown = {name: GOOD[name] for name in GOOD if not name.startswith("ctcvr")}
    (found,) = shortcomings(unknown, SimulateSection())
    assert "not known" in found
