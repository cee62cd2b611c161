import numpy as np
import pytest

from taiji.errors import DataError
from taiji.ranking.serving import serving_texts


def serve(texts, *asked):
    users, written = (list(column) for column in zip(*texts, strict=True)) if texts else ([], [])
    who, when = (np.array(column) for column in zip(*asked, strict=True))
    return serving_texts(users, np.array(written), who.astype(object), when).tolist()


def test_the_newest_text_that_was_written_by_then_serves():
    texts = [("b", 10), ("a", 10), ("a", 30), ("a", 20)]
    asked = [("a", 9), ("a", 10), ("a", 25), ("a", 99), ("b", 99), ("c", 99)]
    assert serve(texts, *asked) == [-1, 1, 3, 2, 0, -1]


def test_a_text_of_later_serves_nothing_earlier():
    before = serve([("a", 10)], ("a", 15), ("a", 5))
    assert serve([("a", 10), ("a", 16)], ("a", 15), ("a", 5)) == before == [0, -1]


def test_without_texts_nobody_is_served():
    assert serve([], ("a", 1)) == [-1]


def test_two_texts_of_one_moment_are_refused():
    with pytest.raises(DataError, match="one user and moment"):
        serve([("a", 1), ("a", 1)], ("a", 1))


def test_against_the_plain_loop():
    random = np.random.default_rng(0)
    texts = list({(f"u{random.integers(9)}", int(random.integers(50))) for _ in range(80)})
    asked = [(f"u{random.integers(12)}", int(random.integers(60))) for _ in range(200)]
    for row, (user, ts) in zip(serve(texts, *asked), asked, strict=True):
        own = [(when, n) for n, (who, when) in enumerate(texts) if who == user and when <= ts]
        assert row == (max(own)[1] if own else -1)
