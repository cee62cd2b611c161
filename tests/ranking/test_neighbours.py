import numpy as np
import pytest

from taiji.errors import DataError
from taiji.ranking.neighbours import (
    Neighbours,
    most_similar_earlier,
    most_similar_other_user,
    recall_at_1,
)

SEARCHES = ("exact", "ivf", "hnsw")


def clustered(rows: int, dimension: int = 12, groups: int = 20) -> np.ndarray:
    random = np.random.default_rng(0)
    centres = random.normal(size=(groups, dimension))
    vectors = centres[random.integers(groups, size=rows)]
    vectors = vectors + 0.5 * random.normal(size=(rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def brute(vectors, users):
    """Cosines to all, with oneself and one's other rows left out."""
    cosine = vectors @ vectors.T
    same = np.asarray(users)[:, None] == np.asarray(users)[None, :]
    return np.where(same, -np.inf, cosine)


def test_it_equals_a_full_search_that_leaves_out_oneself():
    vectors, users = clustered(80), [f"u{n}" for n in range(80)]
    cosine = brute(vectors, users)
    nearest = most_similar_other_user(vectors, users)
    assert (nearest.rows == cosine.argmax(axis=1)).all()
    np.testing.assert_allclose(nearest.similarity, cosine.max(axis=1), rtol=1e-5)
    assert recall_at_1(nearest, vectors, users) == 1.0


def test_rows_of_the_same_user_are_not_their_neighbours():
    vectors = clustered(90)
    users = [f"u{n // 3}" for n in range(90)]
    vectors[1::3], vectors[2::3] = vectors[::3], vectors[::3]  # a user's rows are twins
    nearest = most_similar_other_user(vectors, users)
    cosine = brute(vectors, users)
    np.testing.assert_allclose(nearest.similarity, cosine.max(axis=1), rtol=1e-5)
    assert all(users[row] != users[found] for row, found in enumerate(nearest.rows))


@pytest.mark.parametrize("search", SEARCHES)
def test_a_user_with_most_of_the_rows_still_finds_somebody_else(search):
    vectors = clustered(400)
    users = ["one"] * 398 + ["two", "three"]
    vectors[:398] = vectors[0]
    nearest = most_similar_other_user(vectors, users, search)
    assert set(nearest.rows[:398].tolist()) <= {398, 399}
    assert nearest.rows[398] != 398


@pytest.mark.parametrize("search", SEARCHES)
def test_among_many_twins_nobody_is_their_own_neighbour(search, capfd):
    twins = np.tile(np.array([[0.6, 0.8]], dtype=np.float32), (40, 1))
    nearest = most_similar_other_user(twins, [f"u{n}" for n in range(40)], search)
    assert (nearest.rows != np.arange(40)).all()
    assert nearest.similarity == pytest.approx(np.ones(40))
    assert capfd.readouterr() == ("", "")  # Faiss complains on stderr when points are few


@pytest.mark.parametrize("search", ["ivf", "hnsw"])
def test_approximate_search_reports_what_it_misses(search):
    vectors, users = clustered(3000, groups=200), [f"u{n}" for n in range(3000)]
    nearest = most_similar_other_user(vectors, users, search)
    cosine = brute(vectors, users)
    as_near = nearest.similarity >= cosine.max(axis=1) - 1e-5
    np.testing.assert_allclose(  # the cosine is the true one, whatever the index rounds
        nearest.similarity, cosine[np.arange(3000), nearest.rows], rtol=1e-5
    )
    recall = recall_at_1(nearest, vectors, users, sample=3000)
    assert recall == pytest.approx(as_near.mean())
    assert recall > 0.9


def test_recall_of_a_wrong_answer_is_low_and_of_a_twin_whole():
    vectors, users = clustered(50), [f"u{n}" for n in range(50)]
    vectors[1] = vectors[0]
    exact = most_similar_other_user(vectors, users)
    wrong = Neighbours(exact.rows, exact.similarity - 0.1)
    assert recall_at_1(wrong, vectors, users) == 0.0
    assert recall_at_1(exact, vectors, users, sample=7, seed=3) == 1.0


@pytest.mark.parametrize("users", [["u0"], ["u0", "u0", "u0"]])
def test_one_user_alone_is_refused(users):
    with pytest.raises(DataError, match="num_rank_users"):
        most_similar_other_user(np.ones((len(users), 4), dtype=np.float32), users)


@pytest.mark.parametrize("search", ["exact", "ivf", "hnsw"])
def test_a_row_of_nan_is_named_and_not_searched_for_ever(search):
    vectors = np.eye(30, dtype=np.float32)
    vectors[3] = np.nan
    with pytest.raises(DataError, match=r"1 rows hold NaN or infinity, the first is row 3"):
        most_similar_other_user(vectors, [str(n) for n in range(30)], search)


def test_nobody_borrows_from_a_text_that_was_written_later():
    vectors = clustered(120)
    users, written = [f"u{n % 40}" for n in range(120)], np.arange(120) // 40 * 10
    nearest = most_similar_earlier(vectors, users, written)
    cosine = brute(vectors, users)
    cosine[written[:, None] < written[None, :]] = -np.inf
    np.testing.assert_allclose(nearest.similarity, cosine.max(axis=1), rtol=1e-5)
    assert (written[nearest.rows] <= written).all()


def test_a_text_of_the_future_changes_no_neighbour():
    vectors, users = clustered(60), [f"u{n % 20}" for n in range(60)]
    written = np.arange(60)
    before = most_similar_earlier(vectors[:50], users[:50], written[:50])
    after = most_similar_earlier(vectors, users, written)
    assert (after.rows[:50] == before.rows).all()


def test_who_writes_first_has_no_neighbour():
    vectors = clustered(3)
    found = most_similar_earlier(vectors, ["a", "a", "b"], np.array([1, 2, 3]))
    assert found.rows.tolist()[:2] == [-1, -1]
    assert found.rows[2] >= 0
