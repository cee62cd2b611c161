import market_run
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from taiji import schema
from taiji.config import FeaturesSection, InferSection, MatchSection, RankSection, StudentSection
from taiji.data.calendar import RANK_SPLITS
from taiji.errors import DataError
from taiji.ranking.categories import Categories
from taiji.stages.features import features
from taiji.stages.infer import infer
from taiji.stages.parts.category_likelihoods import (
    LIKELIHOODS,
    likelihoods_of,
    offers_by_split,
    read_likelihoods,
)
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.language_features import FeatureSource
from taiji.store.files import read_parquet, write_parquet


def told(*rows):
    columns = ("example_id", "model", "nodes", "excess")
    return pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], LIKELIHOODS)


def test_scores_are_standardised_within_the_offer_of_a_text_by_hand():
    # 1, 3: mean 2, deviation 1. Equal scores say nothing. Node 1 was on no offer.
    table = told(("b", "policy", [0, 2], [1.0, 3.0]), ("a", "policy", [0, 2], [5.0, 5.0]))
    found = read_likelihoods(table, ["a", "b"], 3)
    assert found.tolist() == [[0, 0, 0], [-1, 0, 1]]


def test_scores_that_do_not_fit_are_refused():
    table = told(("a", "policy", [0, 3], [1.0, 3.0]))
    with pytest.raises(DataError, match="another catalogue"):
        read_likelihoods(table, ["a"], 3)
    with pytest.raises(DataError, match="other texts"):
        read_likelihoods(table, ["b"], 4)


def test_what_is_shown_from_the_window_on_is_on_no_offer_of_it(tmp_path):
    market_run.write_construct(tmp_path / "construct")
    logs = Constructed(tmp_path / "construct")
    categories = Categories.from_items(logs.items)
    path = tmp_path / "construct" / "exposures.parquet"
    shown, start = logs.labelled_exposures, logs.calendar.start("test")
    # Before the test window one shelf alone is shown; from its first moment on, all are.
    node = categories.of_item[
        np.asarray(pc.index_in(shown["item_id"], value_set=logs.items["item_id"].combine_chunks()))
    ]
    early = np.asarray(pc.less(shown["ts"], pa.scalar(start)))
    kept = shown.filter(pa.array(~early | (node == node[0])))
    write_parquet(kept, path, schema.EXPOSURES)
    offers = offers_by_split(Constructed(tmp_path / "construct"), categories)
    assert offers["rank_test"].tolist() == [node[0]]
    # At its very first moment is not before it.
    at = kept.slice(0, 1).set_column(
        kept.schema.get_field_index("ts"), kept.schema.field("ts"), pa.array([start], schema.TIME)
    )
    other = logs.items["item_id"][int(np.flatnonzero(categories.of_item != node[0])[0])]
    at = at.set_column(
        at.schema.get_field_index("item_id"), at.schema.field("item_id"), pa.array([other.as_py()])
    )
    write_parquet(pa.concat_tables([kept, at.cast(kept.schema)]), path, schema.EXPOSURES)
    again = offers_by_split(Constructed(tmp_path / "construct"), categories)
    assert again["rank_test"].tolist() == [node[0]]


@pytest.fixture
def run(tmp_path, tiny_model, smollm2_tokenizer):
    market_run.write_construct(tmp_path / "construct")
    path = tmp_path / "construct" / "examples.parquet"
    few = read_parquet(path, schema.EXAMPLES).to_pylist()
    few = [row for row in few if row["user_id"] < "u009"]
    for row in few:
        row["profile"] = f"Household of {row['user_id']}"
    write_parquet(pa.Table.from_pylist(few, schema.EXAMPLES), path, schema.EXAMPLES)
    for name in ("sft", "align"):
        tiny_model.save_pretrained(tmp_path / name / "model")
        smollm2_tokenizer.save_pretrained(tmp_path / name / "model")
    return tmp_path


def test_what_a_model_finds_likely_becomes_a_column_of_the_match(run):
    settings = market_run.recipe(
        student=StudentSection(max_prompt_tokens=200, max_completion_tokens=4),
        infer=InferSection(models=("policy",), likelihoods=True),
        features=FeaturesSection(sub_vectors=4, bits=2, match=MatchSection()),
        rank=RankSection(arms=("base", "match")),
    )
    infer(market_run.context(run, "infer", settings))
    logs = Constructed(run / "construct")
    categories = Categories.from_items(logs.items)
    offers = offers_by_split(logs, categories)
    scores = likelihoods_of(run / "infer" / "likelihoods.parquet", "policy")
    examples = logs.examples(*RANK_SPLITS)
    assert scores["example_id"].to_pylist() == examples["example_id"].to_pylist()
    for row, split in zip(scores.to_pylist(), examples["split"].to_pylist(), strict=True):
        assert row["nodes"] == offers[split].tolist()
        assert np.isfinite(row["excess"]).all()
    assert len({tuple(row["excess"]) for row in scores.to_pylist()}) > 1, "prompts differ"
    path = run / "infer" / "texts.parquet"  # an untrained model falls silent
    rows = [
        r | {"completion": r["example_id"]} for r in read_parquet(path, schema.TEXTS).to_pylist()
    ]
    write_parquet(pa.Table.from_pylist(rows, schema.TEXTS), path, schema.TEXTS)
    features(market_run.context(run, "features", settings), market_run.WordEncoder)
    ctx = market_run.context(run, "rank", settings)
    source = FeatureSource(ctx, logs.as_of, logs.calendar)
    match = source._by_text["policy"]["rank_test"].match
    assert match.column_names[-1] == "likelihood"
    users = source._by_text["policy"]["rank_test"].user_ids
    want = read_likelihoods(scores, [f"rank_test-{user}" for user in users], len(categories.paths))
    items = np.arange(len(categories.of_item), dtype=np.int32)
    for row in range(len(users)):
        found = match.columns(np.full(items.size, row), items)[:, -1]
        assert found == pytest.approx(want[row, categories.of_item])
    assert not match.columns(np.full(items.size, -1), items).any()
