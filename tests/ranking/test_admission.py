import numpy as np
import pytest

from taiji.errors import DivergenceError
from taiji.ranking.admission import admit


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


@pytest.mark.parametrize(
    "scores", [np.full((3, 3), 0.2), np.zeros((2, 2)), np.full((2, 2), np.nan)]
)
def test_scores_that_cannot_rank_are_refused(scores):
    with pytest.raises(DivergenceError):
        admit(scores)
