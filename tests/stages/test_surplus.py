import pyarrow as pa
import pytest
from market_run import context, recipe, write_construct, write_texts
from test_ceiling import SECTION

from taiji import schema
from taiji.config import FeaturesSection
from taiji.errors import DataError
from taiji.stages.ceiling import ceiling
from taiji.stages.surplus import surplus
from taiji.store.files import read_json, read_parquet, write_parquet


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_construct(folder / "construct", num_users=60)
    ceiling(context(folder, "ceiling", recipe(ceiling=SECTION)))
    write_texts(folder / "infer", models=("policy", "untuned"))
    path = folder / "infer" / "texts.parquet"
    rows = read_parquet(path, schema.TEXTS).to_pylist()
    for row in rows:  # the policy answers in the paper's form
        if row["model"] == "policy":
            row["answer"] = "Thing 0 of shelf 3; Grocery; Aisle 1; Shelf 3"
    write_parquet(pa.Table.from_pylist(rows, schema.TEXTS), path, schema.TEXTS)
    surplus(context(folder, "surplus", recipe(ceiling=SECTION)))
    return folder


def test_every_model_is_judged_beside_its_texts_dealt_out(run):
    found = read_json(run / "surplus" / "metrics.json")["texts"]
    assert set(found) == {"policy", "policy:shuffled", "untuned", "untuned:shuffled"}
    names = found["policy"]["views"]["names"]
    assert found["policy"]["names_a_text"] == 1.0
    assert found["policy"]["curve_names"] == 1
    assert 0.0 <= names["equivalent_accuracy"]["value"] <= 1.0
    assert set(names["nats_a_thousand"]) == {"click", "ctcvr"}


def test_texts_that_are_the_same_for_all_are_the_same_dealt_out(run):
    found = read_json(run / "surplus" / "metrics.json")["texts"]
    assert found["policy"]["views"] == found["policy:shuffled"]["views"]


def test_texts_of_nobody_who_is_ranked_are_refused(run, tmp_path):
    for name in ("construct", "ceiling"):
        (tmp_path / name).symlink_to(run / name)
    (tmp_path / "infer").mkdir()
    empty = schema.TEXTS.empty_table()
    write_parquet(empty, tmp_path / "infer" / "texts.parquet", schema.TEXTS)
    with pytest.raises(DataError, match=r"features\.texts"):
        surplus(context(tmp_path, "surplus", recipe(ceiling=SECTION)))


def test_exposures_that_a_text_serves_are_judged_by_themselves(run, tmp_path):
    for name in ("construct", "ceiling"):
        (tmp_path / name).symlink_to(run / name)
    (tmp_path / "infer").mkdir()
    rows = read_parquet(run / "infer" / "texts.parquet", schema.TEXTS).to_pylist()
    few = [row for row in rows if row["model"] == "policy"][:20]
    path = tmp_path / "infer" / "texts.parquet"
    write_parquet(pa.Table.from_pylist(few, schema.TEXTS), path, schema.TEXTS)
    surplus(context(tmp_path, "surplus", recipe(ceiling=SECTION)))
    of_few = read_json(tmp_path / "surplus" / "metrics.json")["texts"]["policy"]
    of_all = read_json(run / "surplus" / "metrics.json")["texts"]["policy"]
    assert 0 < of_few["served"] < of_all["served"]
    groups = of_few["views"]["names"]["groups"]
    assert groups["served"] != groups["all"]
    assert of_few["views"]["names"]["weights"] != of_all["views"]["names"]["weights"]


def test_a_moment_without_a_given_text_is_not_served(run, tmp_path):
    found = {}
    for name, keep in (("empty", True), ("missing", False)):
        folder = tmp_path / name
        (folder / "infer").mkdir(parents=True)
        for stage in ("construct", "ceiling"):
            (folder / stage).symlink_to(run / stage)
        rows = read_parquet(run / "infer" / "texts.parquet", schema.TEXTS).to_pylist()
        own = [row for row in rows if row["model"] == "policy"]
        nothing = {"status": "empty", "completion": "", "cot": "", "answer": ""}
        rest = [row | nothing for row in own[20:]] if keep else []
        table = pa.Table.from_pylist(own[:20] + rest, schema.TEXTS)
        write_parquet(table, folder / "infer" / "texts.parquet", schema.TEXTS)
        surplus(context(folder, "surplus", recipe(ceiling=SECTION)))
        found[name] = read_json(folder / "surplus" / "metrics.json")["texts"]["policy"]
    assert found["empty"] == found["missing"]


def test_texts_of_erased_users_are_not_judged(run, tmp_path):
    for stage in ("construct", "ceiling", "infer"):
        (tmp_path / stage).symlink_to(run / stage)
    gone = tmp_path / "gone.txt"
    gone.write_text("u001\nu002\n")
    features = FeaturesSection(sub_vectors=4, bits=3, erased_users=str(gone))
    settings = recipe(ceiling=SECTION, features=features)
    surplus(context(tmp_path, "surplus", settings))
    found = read_json(tmp_path / "surplus" / "metrics.json")["texts"]["policy"]
    everybody = read_json(run / "surplus" / "metrics.json")["texts"]["policy"]
    assert 0 < found["served"] < everybody["served"]
