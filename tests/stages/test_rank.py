import market_run
import numpy as np
import pyarrow.compute as pc
import pytest
from weeks import CALENDAR

from taiji import schema
from taiji.artifacts import read_json, read_parquet
from taiji.config import RankSection
from taiji.evaluation.metrics import auc
from taiji.stages.features import build_features
from taiji.stages.rank import rank

ARMS = ["base", "both", "cross", "intra"]


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    run = tmp_path_factory.mktemp("rank")
    world = market_run.write_construct(run / "construct")
    market_run.write_texts(run / "infer", silent=2)
    context = market_run.context(run, "features", market_run.recipe())
    build_features(context, market_run.WordEncoder())
    return world, run


@pytest.fixture(scope="module")
def finished(upstream):
    world, run = upstream
    context = market_run.context(run, "rank", market_run.recipe())
    summary = rank(context)
    predictions = read_parquet(context.out / "predictions.parquet", schema.PREDICTIONS)
    return world, predictions, read_json(context.out / "metrics.json"), summary


def test_every_arm_and_seed_predicts_every_test_exposure(finished):
    world, predictions, _, _ = finished
    test = CALENDAR.window("test").rows(world.exposures)
    parts = predictions.group_by(["arm", "seed"]).aggregate([([], "count_all")])
    assert sorted(set(parts["arm"].to_pylist())) == ARMS
    assert parts["count_all"].to_pylist() == [test.num_rows] * 8
    assert predictions.slice(0, test.num_rows)["item_id"].equals(test["item_id"])


def test_only_users_with_text_are_covered(finished):
    _, predictions, metrics, _ = finished
    covered = set(predictions.filter(predictions["covered"])["user_id"].to_pylist())
    assert covered == {f"u{n:03d}" for n in range(2, market_run.NUM_RANK_USERS)}
    assert metrics["covered"]["users"] == len(covered) < metrics["users"]


def test_figures_are_those_of_the_predictions(finished):
    _, predictions, metrics, summary = finished
    by_hand = []
    for seed in set(predictions["seed"].to_pylist()):
        rows = predictions.filter(
            pc.and_(pc.equal(predictions["arm"], "intra"), pc.equal(predictions["seed"], seed))
        )
        by_hand.append(auc(rows["click"].to_numpy(), rows["ctr"].to_numpy()))
    figure = metrics["arms"]["intra"]["click_auc"]
    assert figure["value"] == pytest.approx(np.mean(by_hand), abs=1e-6)
    assert figure["low"] < figure["value"] < figure["high"]
    assert summary["intra_click_auc"] == pytest.approx(figure["value"], abs=1e-5)


def test_differences_are_to_the_base_and_its_own_is_left_out(finished):
    _, _, metrics, _ = finished
    for group in (metrics, metrics["covered"]):
        assert sorted(group["differences"]) == ARMS[1:]
        arms = {arm: figures["ctcvr_auc"]["value"] for arm, figures in group["arms"].items()}
        for arm, figures in group["differences"].items():
            assert figures["ctcvr_auc"]["value"] == pytest.approx(arms[arm] - arms["base"])


def test_without_a_base_arm_there_are_no_differences(upstream, tmp_path):
    _, run = upstream
    for name in ("construct", "features"):
        (tmp_path / name).symlink_to(run / name)
    settings = market_run.recipe(rank=RankSection(arms=("cross",)))
    context = market_run.context(tmp_path, "rank", settings)
    rank(context)
    metrics = read_json(context.out / "metrics.json")
    assert metrics["differences"] == {}
    assert list(metrics["arms"]) == ["cross"]
