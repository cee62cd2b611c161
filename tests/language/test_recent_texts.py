import numpy as np

from taiji.language.recent_texts import RecentTexts


class CountingEncoder:
    name, dimension = "counting", 1

    def __init__(self):
        self.calls = []

    def encode(self, texts):
        self.calls.append(list(texts))
        return np.array([[len(text)] for text in texts], dtype=np.float32)


def test_a_text_is_computed_once_and_rows_keep_their_order():
    inner = CountingEncoder()
    recent = RecentTexts(inner)
    assert recent.encode(["bb", "a", "bb"]).tolist() == [[2], [1], [2]]
    assert recent.encode(["a", "ccc"]).tolist() == [[1], [3]]
    assert inner.calls == [["bb", "a"], ["ccc"]]
    assert recent.encode([]).shape == (0, 1)


def test_the_text_not_asked_for_longest_goes_first():
    inner = CountingEncoder()
    recent = RecentTexts(inner, max_texts=2)
    recent.encode(["a", "bb"])
    recent.encode(["a"])
    recent.encode(["ccc"])
    recent.encode(["a", "bb"])
    assert inner.calls == [["a", "bb"], ["ccc"], ["bb"]]


def test_more_texts_at_once_than_are_kept_are_all_answered():
    recent = RecentTexts(CountingEncoder(), max_texts=1)
    assert recent.encode(["a", "bb", "ccc"]).tolist() == [[1], [2], [3]]


def test_what_is_forgotten_is_computed_again():
    inner = CountingEncoder()
    recent = RecentTexts(inner)
    recent.encode(["a"])
    recent.forget()
    recent.encode(["a"])
    assert inner.calls == [["a"], ["a"]]
