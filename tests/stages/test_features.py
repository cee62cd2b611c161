import market_run
import numpy as np
import pytest
from weeks import CALENDAR

from taiji import schema
from taiji.artifacts import read_json, read_parquet
from taiji.config import FeaturesSection
from taiji.errors import ConfigError, DataError
from taiji.ranking.pairs import AsOf
from taiji.ranking.quantise import load_codebook
from taiji.stages.features import build_features


def run_features(folder, texts=None, **sections):
    world = market_run.write_construct(folder / "construct")
    market_run.write_texts(folder / "infer", **(texts or {}))
    context = market_run.context(folder, "features", market_run.recipe(**sections))
    return world, context, build_features(context, market_run.WordEncoder())


def test_each_user_gets_codes_and_the_sequence_of_another_user_of_the_split(tmp_path):
    world, context, summary = run_features(tmp_path)
    table = read_parquet(context.out / "features.parquet", schema.USER_FEATURES)
    assert table.num_rows == 2 * market_run.NUM_RANK_USERS
    asof = AsOf(
        users=world.users, items=world.items, interactions=world.interactions, calendar=CALENDAR
    )
    for row in table.to_pylist():
        assert row["neighbour_user_id"] != row["user_id"]
        cutoff = market_run.CUTOFFS[row["split"]]
        borrowed = asof.last_items([row["neighbour_user_id"]], [cutoff], 100)[0]
        assert row["neighbour_item_ids"] == borrowed
    assert summary["users_with_features"] == table.num_rows
    assert summary["users_without_text"] == 0


def test_codes_come_from_the_saved_codebook_and_embeddings_lie_beside_the_rows(tmp_path):
    _, context, _ = run_features(tmp_path)
    table = read_parquet(context.out / "features.parquet", schema.USER_FEATURES)
    embeddings = np.load(context.out / "embeddings.npy", allow_pickle=False)
    assert embeddings.dtype == np.float32
    codes = load_codebook(context.out).compute_codes(embeddings)
    assert codes.tolist() == table["codes"].to_pylist()
    first = f"likes shelf {1} and aisle {1}\nthing 1"
    row = table["example_id"].to_pylist().index("rank_train-u001")
    np.testing.assert_array_equal(embeddings[row], market_run.WordEncoder().encode([first])[0])


def test_the_test_split_does_not_shape_the_codebook(tmp_path):
    _, plain, _ = run_features(tmp_path / "plain")
    _, other, _ = run_features(tmp_path / "other", {"test": " and something else entirely"})
    digests = [read_json(one.out / "codebook.json")["digest"] for one in (plain, other)]
    assert digests[0] == digests[1]
    codes = [
        read_parquet(one.out / "features.parquet", schema.USER_FEATURES)["codes"].to_pylist()
        for one in (plain, other)
    ]
    half = market_run.NUM_RANK_USERS
    assert codes[0][:half] == codes[1][:half]
    assert codes[0][half:] != codes[1][half:]


def test_malformed_text_counts_for_what_it_holds_and_silence_is_counted(tmp_path):
    _, context, summary = run_features(tmp_path, {"silent": 3})
    table = read_parquet(context.out / "features.parquet", schema.USER_FEATURES)
    assert summary["users_without_text"] == 2 * 3
    assert "u002" not in table["user_id"].to_pylist()
    assert "u003" in table["user_id"].to_pylist()  # malformed, and its raw words are used


def test_examples_that_the_policy_left_out_are_named(tmp_path):
    with pytest.raises(DataError, match=r"2 ranking examples.*u029"):
        run_features(tmp_path, {"without": 1})


def test_too_few_users_for_the_codebook_say_what_to_change(tmp_path):
    with pytest.raises(ConfigError, match=r"features\.bits"):
        run_features(tmp_path, features=FeaturesSection(sub_vectors=4, bits=5))
