import numpy as np
import pyarrow as pa
import pytest
from weeks import window_start

from taiji.config import FeaturesSection
from taiji.errors import DataError
from taiji.ranking.features import (
    DEFAULTS,
    default_features,
    feature_text,
    user_features,
    why_default,
)
from taiji.ranking.inputs import LanguageFeatures
from taiji.ranking.neighbours import most_similar_other_user
from taiji.ranking.quantise import train_codebook
from taiji.schema import TIME, USER_FEATURES


@pytest.fixture(scope="module")
def table(asof):
    cutoff = window_start("ranker")
    examples = pa.table(
        {
            "example_id": [f"rank_train-{n}" for n in range(20)],
            "user_id": [f"u{n:03d}" for n in range(20)],
            "split": ["rank_train"] * 20,
            "cutoff": pa.array([cutoff] * 20, TIME),
        }
    )
    vectors = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    vectors[1] = vectors[0]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codebook = train_codebook(vectors, FeaturesSection(sub_vectors=2, bits=2), seed=0)
    nearest = most_similar_other_user(vectors, examples["user_id"].to_pylist())
    return user_features(examples, vectors, codebook, asof, nearest, 7)


def test_the_neighbour_lends_what_they_bought_before_the_cut_off(table, asof):
    assert table.schema.equals(USER_FEATURES)
    first = table.slice(0, 1).to_pylist()[0]
    assert first["neighbour_user_id"] == "u001"
    assert first["similarity"] == pytest.approx(1)
    expected = asof.last_items(["u001"], [window_start("ranker")], 7)[0]
    assert first["neighbour_item_ids"] == expected
    assert len(expected) == 7


def test_the_ranking_model_finds_each_user_and_knows_who_is_missing(table, asof):
    language = LanguageFeatures.from_table(table, asof.item_ids, num_codes=4, neighbour_items=9)
    rows = language.rows(np.array(["u004", "somebody else"], dtype=object))
    assert rows.tolist() == [4, -1]
    assert language.codes[rows[0]].tolist() == table["codes"][4].as_py()
    assert (language.codes[rows[1]] == -1).all()
    borrowed = [asof.item_ids[item] for item in language.neighbour_items[4] if item >= 0]
    assert borrowed == table["neighbour_item_ids"][4].as_py()
    assert (language.neighbour_items[-1] == -1).all()


def test_features_that_do_not_fit_are_refused(table, asof):
    with pytest.raises(DataError, match="twice"):
        LanguageFeatures.from_table(
            pa.concat_tables([table, table]), asof.item_ids, num_codes=4, neighbour_items=9
        )
    with pytest.raises(DataError, match="outside"):
        LanguageFeatures.from_table(table, asof.item_ids, num_codes=2, neighbour_items=9)
    with pytest.raises(DataError, match="catalogue"):
        LanguageFeatures.from_table(table, ["i00"], num_codes=4, neighbour_items=9)


def test_a_user_is_what_was_reasoned_and_answered():
    assert feature_text(" likes tea ", "Green tea") == "likes tea\nGreen tea"
    assert feature_text("", "Green tea ") == "Green tea"
    assert feature_text(" ", "") == ""


@pytest.mark.parametrize(
    ("known", "status", "text", "reason"),
    [
        (True, "ok", "likes tea", None),
        (True, "malformed", "likes tea", None),
        (True, "truncated", "likes te", None),
        (False, "ok", "likes tea", "nothing_known"),
        (True, "empty", " ", "empty"),
        (True, "timeout", "", "timeout"),
        (True, "http_error", "", "http_error"),
        (True, "refused", "I cannot say", "refused"),
    ],
)
def test_why_a_user_gets_the_default_features(known, status, text, reason):
    assert why_default(known=known, status=status, text=text) == reason


def test_default_features_are_what_the_ranking_model_sees_of_a_user_it_does_not_know(table, asof):
    stranger = {"example_id": "e", "user_id": "x", "split": "rank_train", "reason": "empty"}
    defaults = default_features([stranger | {"text": "", "cutoff": None}], sub_vectors=2)
    assert defaults.schema.equals(DEFAULTS)
    (row,) = defaults.to_pylist()
    language = LanguageFeatures.from_table(table, asof.item_ids, num_codes=4, neighbour_items=9)
    missing = language.rows(np.array(["x"], dtype=object))[0]
    assert language.codes[missing].tolist() == row["codes"]
    assert [item for item in language.neighbour_items[missing] if item >= 0] == []
    assert row["neighbour_item_ids"] == []
    assert default_features([], sub_vectors=2).num_rows == 0
