import numpy as np
import pyarrow as pa

from taiji.config import LocalCompute
from taiji.language import stored_vectors
from taiji.language.stored_vectors import store_vectors


class LengthEncoder:
    name, dimension = "lengths", 2
    texts: list[str] = []  # noqa: RUF012

    def encode(self, texts):
        self.texts.extend(texts)
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


def test_each_text_is_computed_once_and_read_in_any_order(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_vectors, "PIECE_TEXTS", 2)
    monkeypatch.setattr(stored_vectors, "_ROWS_AT_A_TIME", 3)
    texts = pa.chunked_array([["aa", "b", "aa"], ["", "cccc", "b", "ddd"]])
    LengthEncoder.texts.clear()
    vectors = store_vectors(LocalCompute(), LengthEncoder, texts, tmp_path / "v.f32")
    assert LengthEncoder.texts == ["aa", "b", "", "cccc", "ddd"]
    lengths = [2, 1, 2, 0, 4, 1, 3]
    for rows in (np.arange(7), np.array([6, 0, 3]), np.array([], dtype=np.int64)):
        assert vectors.take(rows).tolist() == [[lengths[row], 1] for row in rows]
    assert (tmp_path / "v.f32").stat().st_size == 5 * 2 * 4
