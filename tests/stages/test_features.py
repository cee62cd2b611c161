from datetime import timedelta

import market_run
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from weeks import CALENDAR

from taiji import schema
from taiji.config import FeaturesSection, InferSection, MatchSection, RankSection
from taiji.errors import ConfigError, DataError
from taiji.ranking.as_of import AsOf
from taiji.ranking.columns import microseconds
from taiji.ranking.comparison import Variant
from taiji.ranking.features import DEFAULTS
from taiji.ranking.quantise import load_codebook
from taiji.stages.features import features
from taiji.stages.parts.category_likelihoods import LIKELIHOODS
from taiji.stages.parts.language_features import FeatureSource
from taiji.store.files import read_json, read_parquet, write_parquet


def run_features(folder, texts=None, **sections):
    world = market_run.write_construct(folder / "construct")
    market_run.write_texts(folder / "infer", **(texts or {}))
    context = market_run.context(folder, "features", market_run.recipe(**sections))
    return world, context, features(context, market_run.WordEncoder)


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
    assert summary["users_with_default_features"] == 0
    assert "neighbour_recall_at_1" not in summary  # exact search misses nobody


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


def test_malformed_text_counts_for_what_it_holds_and_silence_gets_the_default(tmp_path):
    _, context, summary = run_features(tmp_path, {"silent": 3})
    table = read_parquet(context.out / "features.parquet", schema.USER_FEATURES)
    assert summary["users_with_default_features"] == summary["default_empty"] == 2 * 3
    assert "u002" not in table["user_id"].to_pylist()
    assert "u003" in table["user_id"].to_pylist()  # malformed, and its raw words are used
    defaults = read_parquet(context.out / "defaults.parquet", DEFAULTS).to_pylist()
    silent = [(row["example_id"], row["reason"], row["codes"]) for row in defaults]
    assert silent == [
        (f"{split}-u{user:03d}", "empty", [-1] * 4)
        for split in sorted(market_run.CUTOFFS)
        for user in range(3)
    ]


def test_users_of_whom_nothing_is_known_get_the_default_whatever_was_written(tmp_path):
    market_run.write_construct(tmp_path / "construct")
    path = tmp_path / "construct" / "examples.parquet"
    line = {"item_id": "i00", "ts": market_run.CUTOFFS["rank_train"], "price": None, "text": "x"}
    told = {"u000": ("", []), "u001": ("", [line]), "u002": ("Household", [])}
    rows = []
    for row in read_parquet(path).to_pylist():
        profile, history = told.get(row["user_id"], ("A", []))
        known = {"profile": profile, "history": history, "history_length": len(history)}
        rows.append(row | known)
    write_parquet(pa.Table.from_pylist(rows, schema.EXAMPLES), path, schema.EXAMPLES)
    market_run.write_texts(tmp_path / "infer")
    context = market_run.context(tmp_path, "features", market_run.recipe())
    summary = features(context, market_run.WordEncoder)
    assert summary["default_nothing_known"] == summary["users_with_default_features"] == 2
    table = read_parquet(context.out / "features.parquet", schema.USER_FEATURES)
    assert "u000" not in table["user_id"].to_pylist() + table["neighbour_user_id"].to_pylist()
    assert {"u001", "u002"} <= set(table["user_id"].to_pylist())


def test_erased_users_get_no_features_lend_nothing_and_shape_no_code(tmp_path):
    gone = tmp_path / "erased.txt"
    gone.write_text("u004\r\n  u007\nsomebody unknown\n\n", encoding="utf-8")
    section = FeaturesSection(sub_vectors=4, bits=3, erased_users=str(gone))
    _, context, summary = run_features(tmp_path / "run", features=section)
    table = read_parquet(context.out / "features.parquet", schema.USER_FEATURES)
    assert table.num_rows == 2 * (market_run.NUM_RANK_USERS - 2)
    named = {*table["user_id"].to_pylist(), *table["neighbour_user_id"].to_pylist()}
    assert not named & {"u004", "u007"}
    assert summary["users_erased"] == 2
    assert read_parquet(context.out / "defaults.parquet", DEFAULTS).num_rows == 0
    embeddings = np.load(context.out / "embeddings.npy", allow_pickle=False)
    assert len(embeddings) == table.num_rows
    gone.unlink()
    with pytest.raises(DataError, match=r"features\.erased_users: .*erased\.txt"):
        run_features(tmp_path / "again", features=section)


def test_only_ids_of_items_from_before_the_cut_off_leave_a_neighbour(tmp_path):
    world, context, _ = run_features(tmp_path / "plain")
    changed = [
        row | {"item_id": "i53"} if row["ts"] >= market_run.CUTOFFS["rank_train"] else row
        for row in world.interactions.to_pylist()
    ]
    market_run.write_construct(tmp_path / "later" / "construct")
    write_parquet(
        pa.Table.from_pylist(changed, schema.INTERACTIONS),
        tmp_path / "later" / "construct" / "interactions.parquet",
        schema.INTERACTIONS,
    )
    market_run.write_texts(tmp_path / "later" / "infer")
    later = market_run.context(tmp_path / "later", "features", market_run.recipe())
    features(later, market_run.WordEncoder)
    borrowed = [
        read_parquet(one.out / "features.parquet")["neighbour_item_ids"].to_pylist()
        for one in (context, later)
    ]
    half = market_run.NUM_RANK_USERS
    assert borrowed[0][:half] == borrowed[1][:half]  # nothing of the future
    assert borrowed[0][half:] != borrowed[1][half:]  # which for the test split is past


def later_for_odd_users(folder):
    """Each user keeps one example a split; that of every other user is asked for a week later."""
    path = folder / "construct" / "examples.parquet"
    rows = read_parquet(path, schema.EXAMPLES).to_pylist()
    for row in rows:
        row["cutoff"] += timedelta(weeks=int(row["user_id"][1:]) % 2)
    write_parquet(pa.Table.from_pylist(rows, schema.EXAMPLES), path, schema.EXAMPLES)
    return {row["user_id"]: row["cutoff"] for row in rows if row["split"] == "rank_test"}


def test_of_one_text_a_user_and_several_moments_none_serves_or_lends_before_its_own(tmp_path):
    world = market_run.write_construct(tmp_path / "construct")
    market_run.write_texts(tmp_path / "infer")
    cutoffs = later_for_odd_users(tmp_path)
    settings = market_run.recipe(rank=RankSection(texts=["policy"]))
    features(market_run.context(tmp_path, "features", settings), market_run.WordEncoder)
    table = read_parquet(tmp_path / "features" / "features.parquet", schema.USER_FEATURES)
    for row in table.filter(pc.equal(table["split"], "rank_test")).to_pylist():
        donor = row["neighbour_user_id"]
        assert donor is None or cutoffs[donor] <= cutoffs[row["user_id"]]
    asof = AsOf(
        users=world.users, items=world.items, interactions=world.interactions, calendar=CALENDAR
    )
    source = FeatureSource(market_run.context(tmp_path, "rank", settings), asof, CALENDAR)
    _, test = source.of(Variant("both", "policy"))
    users = np.array(["u001", "u002"], dtype=object)
    first = microseconds(pa.chunked_array([[cutoffs["u002"]] * 2], schema.TIME))
    assert [row >= 0 for row in test.rows(users, first)] == [False, True]


@pytest.mark.parametrize("search", ["ivf", "hnsw"])
def test_approximate_neighbours_come_with_their_recall(tmp_path, search):
    section = FeaturesSection(sub_vectors=4, bits=3, neighbours=search)
    _, _, summary = run_features(tmp_path, features=section)
    assert 0.9 <= summary["neighbour_recall_at_1"] <= 1.0


def test_every_quantiser_is_saved_with_its_figures(tmp_path):
    section = FeaturesSection(sub_vectors=4, bits=3, quantiser="rq")
    _, context, summary = run_features(tmp_path, features=section)
    codebook = read_json(context.out / "codebook.json")
    assert codebook["quantiser"] == "rq"
    assert load_codebook(context.out).kind == "rq"
    for name in ("reconstruction_error", "reconstruction_error_test", "used", "collisions_test"):
        assert summary[name] == round(codebook[name], 4)
    assert summary["collisions"] > 0.5  # the market's texts repeat every twelve users


def test_texts_of_other_models_become_features_in_folders_of_their_own(tmp_path):
    section = FeaturesSection(sub_vectors=4, bits=3, texts=("policy", "sft"))
    _, context, summary = run_features(
        tmp_path / "both", {"models": ("policy", "sft")}, features=section
    )
    _, alone, _ = run_features(tmp_path / "alone")
    names = {"codebook.faiss", "codebook.json", "defaults.parquet", "embeddings.npy"}
    names |= {"features.parquet"}
    assert {path.name for path in (context.out / "sft").iterdir()} == names
    assert {path.name for path in context.out.glob("[!.]*")} == names | {"sft"}
    for name in names:  # the policy's files are as if nobody else had written
        assert (context.out / name).read_bytes() == (alone.out / name).read_bytes()
    codes = load_codebook(context.out / "sft").compute_codes(
        np.load(context.out / "sft" / "embeddings.npy", allow_pickle=False)
    )
    table = read_parquet(context.out / "sft" / "features.parquet", schema.USER_FEATURES)
    assert codes.tolist() == table["codes"].to_pylist()
    assert codes.tolist() != read_parquet(context.out / "features.parquet")["codes"].to_pylist()
    assert summary["sft_users_with_features"] == 2 * market_run.NUM_RANK_USERS


def test_the_prompt_has_features_but_no_likelihoods(tmp_path):
    section = FeaturesSection(
        sub_vectors=4, bits=3, texts=("policy", "prompt"), match=MatchSection()
    )
    settings = market_run.recipe(features=section, infer=InferSection(likelihoods=True))
    market_run.write_construct(tmp_path / "construct")
    market_run.write_texts(tmp_path / "infer", models=("policy", "prompt"))
    likely = [{"example_id": "rank_test-u000", "model": "policy", "nodes": [0], "excess": [1.0]}]
    path = tmp_path / "infer" / "likelihoods.parquet"
    write_parquet(pa.Table.from_pylist(likely, LIKELIHOODS), path, LIKELIHOODS)
    context = market_run.context(tmp_path, "features", settings)
    summary = features(context, market_run.WordEncoder)
    assert (context.out / "likelihoods.parquet").is_file()
    assert not (context.out / "prompt" / "likelihoods.parquet").exists()
    assert summary["prompt_users_with_features"] == 2 * market_run.NUM_RANK_USERS


@pytest.mark.parametrize("texts", [("sft",), ("policy", "policy")])
def test_the_policy_is_always_among_the_texts(texts):
    with pytest.raises(ValueError, match="policy among them"):
        FeaturesSection(texts=texts)


def test_examples_that_the_policy_left_out_are_named(tmp_path):
    with pytest.raises(DataError, match=r"2 ranking examples.*u029"):
        run_features(tmp_path, {"without": 1})


def test_too_few_users_for_the_codebook_say_what_to_change(tmp_path):
    with pytest.raises(ConfigError, match=r"features\.bits"):
        run_features(tmp_path, features=FeaturesSection(sub_vectors=4, bits=5))


def test_where_every_reply_is_empty_the_stage_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"60 ranking .*\(empty: 60\).*sft\.num_examples"):
        run_features(tmp_path, {"silent": 30})
