import logging
import threading

import numpy as np
import pytest

from taiji.language.encoder_caches import CachedEncoder, RecentTexts


class CountingEncoder:
    """Embeds a text as its length and its first letter, and counts."""

    dimension = 2

    def __init__(self, name, dimension=2):
        self.name, self.dimension, self.texts = str(name), dimension, []

    def encode(self, texts):
        self.texts += texts
        rows = [[len(text), ord((text or " ")[0])] for text in texts]
        out = np.zeros((len(texts), self.dimension), np.float32)
        out[:, :2] = np.array(rows, np.float32).reshape(-1, 2)
        return out


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_bytes(b"one")
    return folder


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


TEXTS = ["b", "aa", "b", "", "\ud800 lone"]


def test_a_text_is_computed_once_and_comes_back_the_same(model, cache):
    first = CountingEncoder(model)
    vectors = CachedEncoder(first, cache).encode(TEXTS)
    assert first.texts == ["b", "aa", "", "\ud800 lone"]
    assert np.array_equal(vectors, CountingEncoder(model).encode(TEXTS))

    second = CountingEncoder(model)
    again = CachedEncoder(second, cache)
    assert np.array_equal(again.encode(TEXTS[::-1]), vectors[::-1])
    assert second.texts == []
    again.encode(["new", "b"])
    assert second.texts == ["new"]


def test_nothing_is_asked_for_nothing(model, cache):
    encoder = CountingEncoder(model)
    assert CachedEncoder(encoder, cache).encode([]).shape == (0, 2)
    assert not cache.exists()


def test_a_changed_model_or_width_never_serves_old_vectors(model, cache):
    CachedEncoder(CountingEncoder(model), cache).encode(["a"])
    (model / "weights").write_bytes(b"two")
    changed = CountingEncoder(model)
    CachedEncoder(changed, cache).encode(["a"])
    assert changed.texts == ["a"]
    wider = CountingEncoder(model, dimension=3)
    assert CachedEncoder(wider, cache).encode(["a"]).shape == (1, 3)


@pytest.mark.parametrize("content", [b"", b"PAR1 nothing", None])
def test_a_damaged_file_is_left_out_with_a_warning(model, cache, caplog, content):
    CachedEncoder(CountingEncoder(model), cache).encode(["a", "b"])
    (path,) = cache.rglob("*.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # one flipped bit
    path.write_bytes(bytes(data) if content is None else content)
    encoder = CountingEncoder(model)
    with caplog.at_level(logging.WARNING, logger="taiji"):
        cached = CachedEncoder(encoder, cache)
    assert np.array_equal(cached.encode(["a", "b"]), CountingEncoder(model).encode(["a", "b"]))
    assert encoder.texts == ["a", "b"]
    assert "embedding cache" in caplog.text
    CachedEncoder(CountingEncoder(model), cache)  # written anew, whole again
    fresh = CountingEncoder(model)
    CachedEncoder(fresh, cache).encode(["a", "b"])
    assert fresh.texts == []


def test_many_writers_at_once_lose_nothing(model, cache):
    def write(start):
        CachedEncoder(CountingEncoder(model), cache).encode([f"t{start + n}" for n in range(5)])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    encoder = CountingEncoder(model)
    CachedEncoder(encoder, cache).encode([f"t{n}" for n in range(12)])
    assert encoder.texts == []


def test_a_cache_that_cannot_be_written_costs_time_not_the_run(model, tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with caplog.at_level(logging.WARNING, logger="taiji"):
        vectors = CachedEncoder(CountingEncoder(model), blocked).encode(["a"])
    assert vectors.shape == (1, 2)
    assert "not written" in caplog.text


def test_the_cache_lies_in_the_users_cache_folder(model, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    CachedEncoder(CountingEncoder(model)).encode(["a"])
    assert list((tmp_path / "xdg" / "taiji" / "embeddings").rglob("*.parquet"))


class LengthEncoder:
    name, dimension = "counting", 1

    def __init__(self):
        self.calls = []

    def encode(self, texts):
        self.calls.append(list(texts))
        return np.array([[len(text)] for text in texts], dtype=np.float32)


def test_a_text_is_computed_once_and_rows_keep_their_order():
    inner = LengthEncoder()
    recent = RecentTexts(inner)
    assert recent.encode(["bb", "a", "bb"]).tolist() == [[2], [1], [2]]
    assert recent.encode(["a", "ccc"]).tolist() == [[1], [3]]
    assert inner.calls == [["bb", "a"], ["ccc"]]
    assert recent.encode([]).shape == (0, 1)


def test_the_text_not_asked_for_longest_goes_first():
    inner = LengthEncoder()
    recent = RecentTexts(inner, max_texts=2)
    recent.encode(["a", "bb"])
    recent.encode(["a"])
    recent.encode(["ccc"])
    recent.encode(["a", "bb"])
    assert inner.calls == [["a", "bb"], ["ccc"], ["bb"]]


def test_more_texts_at_once_than_are_kept_are_all_answered():
    recent = RecentTexts(LengthEncoder(), max_texts=1)
    assert recent.encode(["a", "bb", "ccc"]).tolist() == [[1], [2], [3]]


def test_what_is_forgotten_is_computed_again():
    inner = LengthEncoder()
    recent = RecentTexts(inner)
    recent.encode(["a"])
    recent.forget()
    recent.encode(["a"])
    assert inner.calls == [["a"], ["a"]]
