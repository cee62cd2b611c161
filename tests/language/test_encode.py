import numpy as np
import pytest

from taiji.errors import DivergenceError, EngineError
from taiji.language.encode import SentenceEncoder
from taiji.language.models import MINILM

TEXTS = ["whole milk, 1 gallon", "2% milk, half gallon", "motor oil 5W-30", "\u725b\u5976"]


@pytest.fixture(scope="module")
def encoder():
    return SentenceEncoder(MINILM, batch_size=2)


def test_rows_are_unit_vectors_in_the_order_of_the_texts(encoder):
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (4, encoder.dimension) == (4, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1])[::-1], vectors, atol=1e-6)


def test_like_texts_are_near(encoder):
    milk, other_milk, oil, _ = encoder.encode(TEXTS)
    assert milk @ other_milk > 0.6 > 0.3 > milk @ oil


def test_company_does_not_change_a_vector(encoder):
    (alone,) = encoder.encode(TEXTS[:1])
    np.testing.assert_allclose(encoder.encode([*TEXTS, "long " * 200])[0], alone, atol=1e-6)


def test_each_distinct_text_is_computed_once(encoder, monkeypatch):
    seen = []
    inner = encoder._model.encode
    monkeypatch.setattr(
        encoder._model, "encode", lambda texts, **kw: seen.extend(texts) or inner(texts, **kw)
    )
    vectors = encoder.encode(["milk", "tea", "milk", "", "tea"])
    assert seen == ["milk", "tea"]
    assert np.array_equal(vectors[0], vectors[2])


def test_a_text_without_words_has_no_direction(encoder):
    vectors = encoder.encode(["milk", "", " \n"])
    assert not vectors[1:].any()
    assert vectors[0].any()
    assert encoder.encode([""]).shape == (1, 384)


def test_no_texts(encoder):
    assert encoder.encode([]).shape == (0, 384)


def test_a_vector_that_is_no_number_stops_the_run(encoder, monkeypatch):
    monkeypatch.setattr(encoder._model, "encode", lambda texts, **kw: np.full((1, 384), np.nan))
    with pytest.raises(DivergenceError, match=MINILM):
        encoder.encode(["milk"])


def test_an_empty_folder_is_no_encoder(tmp_path):
    with pytest.raises(EngineError, match="check that the folder is complete"):
        SentenceEncoder(str(tmp_path))
