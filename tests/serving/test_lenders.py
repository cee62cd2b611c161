"""What a user borrows online is what `features` lets them borrow offline."""

from datetime import datetime

import market_run
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from taiji.config import FeaturesSection
from taiji.data.engine.duckdb_engine import DuckDbEngine
from taiji.errors import DataError
from taiji.ranking.features import user_features
from taiji.ranking.neighbours import most_similar_other_user
from taiji.ranking.quantise import train_codebook
from taiji.schema import EXAMPLES, USER_FEATURES
from taiji.serving.lenders import Lenders
from taiji.stages.parts.constructed import Constructed
from taiji.store.files import read_parquet, write_parquet


@pytest.fixture
def offline(tmp_path):
    construct = tmp_path / "construct"
    market_run.write_construct(construct)
    examples = read_parquet(construct / "examples.parquet", EXAMPLES)
    own = examples.filter(pc.equal(examples["split"], "rank_test")).sort_by("user_id")
    draw = np.random.default_rng(3)
    vectors = draw.normal(size=(own.num_rows, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codebook = train_codebook(vectors, FeaturesSection(sub_vectors=4, bits=3), 1)
    nearest = most_similar_other_user(vectors, own["user_id"].to_pylist())
    table = user_features(own, vectors, codebook, Constructed(construct).as_of, nearest, 5)
    features = tmp_path / "features"
    features.mkdir()
    write_parquet(table, features / "features.parquet", USER_FEATURES)
    np.save(features / "embeddings.npy", vectors)
    engine = DuckDbEngine(tmp_path / "scratch")
    engine.read("run_interactions", [construct / "interactions.parquet"])
    lenders = Lenders(features, construct / "items.parquet", engine, "exact", 5)
    yield table, own["cutoff"].to_pylist(), vectors, lenders, features
    engine.close()


def test_lender_and_sequence_are_those_of_the_stage(offline):
    table, cutoffs, vectors, lenders, _ = offline
    loans = lenders.lend(table["user_id"].to_pylist(), cutoffs, vectors)
    assert [loan.lender for loan in loans] == table["neighbour_user_id"].to_pylist()
    assert [loan.items for loan in loans] == table["neighbour_item_ids"].to_pylist()
    assert any(loan.items for loan in loans)


def test_nothing_is_lent_from_the_borrowers_moment_on(offline):
    table, cutoffs, vectors, lenders, _ = offline
    early = [datetime(1990, 1, 1, tzinfo=cutoffs[0].tzinfo)] * len(cutoffs)
    loans = lenders.lend(table["user_id"].to_pylist(), early, vectors)
    assert all(not loan.items for loan in loans)


def test_a_stranger_borrows_from_the_very_nearest(offline):
    table, cutoffs, vectors, lenders, _ = offline
    (loan,) = lenders.lend(["stranger"], cutoffs[:1], vectors[4:5])
    assert loan.lender == table["user_id"][4].as_py()


def test_an_erased_user_lends_no_more_once_read_again(offline):
    table, cutoffs, vectors, lenders, features = offline
    gone = table["neighbour_user_id"][0].as_py()
    keep = np.asarray(pc.not_equal(table["user_id"], gone))
    write_parquet(table.filter(pa.array(keep)), features / "features.parquet", USER_FEATURES)
    np.save(features / "embeddings.npy", vectors[keep])
    lenders.reload(features)
    loans = lenders.lend(table["user_id"].to_pylist(), cutoffs, vectors)
    assert gone not in {loan.lender for loan in loans}


def test_vectors_that_do_not_fit_their_users_are_refused(offline):
    _, _, vectors, lenders, features = offline
    np.save(features / "embeddings.npy", vectors[1:])
    with pytest.raises(DataError, match="rerun features"):
        lenders.reload(features)
