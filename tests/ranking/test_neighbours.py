import numpy as np
import pytest

from taiji.errors import DataError
from taiji.ranking.neighbours import most_similar_other_user


def test_it_equals_a_full_search_that_leaves_out_oneself():
    vectors = np.random.default_rng(0).normal(size=(80, 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -np.inf)
    nearest = most_similar_other_user(vectors)
    assert (nearest.rows == cosine.argmax(axis=1)).all()
    np.testing.assert_allclose(nearest.similarity, cosine.max(axis=1), rtol=1e-5)


def test_among_many_twins_nobody_is_their_own_neighbour():
    twins = np.tile(np.array([[0.6, 0.8]], dtype=np.float32), (9, 1))
    nearest = most_similar_other_user(twins)
    assert (nearest.rows != np.arange(9)).all()
    assert nearest.similarity == pytest.approx(np.ones(9))


def test_one_user_alone_is_refused():
    with pytest.raises(DataError, match="num_rank_users"):
        most_similar_other_user(np.ones((1, 4), dtype=np.float32))
