import shutil

import market_run
import numpy as np
import pyarrow.compute as pc
import pytest
from weeks import CALENDAR

from taiji import schema
from taiji.config import FeaturesSection, RankSection
from taiji.data.tables.reach import Contents
from taiji.errors import ConfigError
from taiji.evaluation.metrics import auc, gauc
from taiji.ranking.backbones import Network
from taiji.report.ranking_tables import ranking_tables
from taiji.stages import rank as stage
from taiji.stages.features import features
from taiji.stages.rank import rank
from taiji.store.files import read_json, read_parquet, write_json

ARMS = ["base", "both", "cross", "intra"]
NETWORK = market_run.recipe(rank=RankSection(seeds=2))
FULL = market_run.recipe(
    rank=RankSection(
        backbones=("network", "lightgbm"),
        arms=("base", "intra", "cross", "both", "vectors"),
        controls=("shuffled", "swapped", "random_neighbour", "reseeded"),
    )
)
VARIANTS = [*ARMS, "vectors", "base:reseeded", "cross:random_neighbour"]
VARIANTS += [f"{arm}:{how}" for arm in ("both", "vectors") for how in ("shuffled", "swapped")]


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "RESAMPLES", 25)
        yield


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    run = tmp_path_factory.mktemp("rank")
    world = market_run.write_construct(run / "construct")
    market_run.write_texts(run / "infer", silent=2)
    context = market_run.context(run, "features", market_run.recipe())
    features(context, market_run.WordEncoder)
    return world, run


def context_for(upstream, folder, recipe):
    """A run of its own over the shared upstream stages."""
    for name in ("construct", "features"):
        (folder / name).symlink_to(upstream[1] / name)
    return market_run.context(folder, "rank", recipe)


@pytest.fixture(scope="module")
def finished(upstream, tmp_path_factory):
    context = context_for(upstream, tmp_path_factory.mktemp("network"), NETWORK)
    summary = rank(context)
    predictions = read_parquet(context.out / "predictions.parquet", schema.PREDICTIONS)
    return context, predictions, read_json(context.out / "metrics.json"), summary


@pytest.fixture(scope="module")
def full(upstream, tmp_path_factory):
    context = context_for(upstream, tmp_path_factory.mktemp("full"), FULL)
    rank(context)
    return context, read_json(context.out / "metrics.json")


def test_every_arm_and_seed_predicts_every_test_exposure(upstream, finished):
    _, predictions, _, _ = finished
    test = CALENDAR.window("test").rows(upstream[0].exposures)
    parts = predictions.group_by(["backbone", "arm", "seed"]).aggregate([([], "count_all")])
    assert sorted(set(parts["arm"].to_pylist())) == ARMS
    assert parts["count_all"].to_pylist() == [test.num_rows] * 8
    assert predictions.slice(0, test.num_rows)["item_id"].equals(test["item_id"])


def test_only_users_with_text_are_covered(finished):
    _, predictions, metrics, _ = finished
    covered = set(predictions.filter(predictions["covered"])["user_id"].to_pylist())
    assert covered == {f"u{n:03d}" for n in range(2, market_run.NUM_RANK_USERS)}
    groups = metrics["backbones"]["network"]
    assert groups["covered"]["users"] == len(covered) < groups["all"]["users"]


def test_the_long_tail_is_the_half_with_the_shorter_history(upstream, finished):
    _, predictions, metrics, _ = finished
    log = upstream[0].interactions
    early = log.filter(pc.less(log["ts"], CALENDAR.start("ranker")))
    counts = early.group_by("user_id").aggregate([([], "count_all")]).to_pydict()
    lengths = dict(zip(counts["user_id"], counts["count_all"], strict=True))
    border = np.median(list(lengths.values()))
    tail = set(predictions.filter(predictions["long_tail"])["user_id"].to_pylist())
    assert tail == {user for user, length in lengths.items() if length <= border}
    assert metrics["backbones"]["network"]["long_tail"]["users"] == len(tail)


def test_figures_are_those_of_the_predictions(finished):
    _, predictions, metrics, summary = finished
    by_hand = []
    for seed in set(predictions["seed"].to_pylist()):
        rows = predictions.filter(
            pc.and_(pc.equal(predictions["arm"], "intra"), pc.equal(predictions["seed"], seed))
        )
        by_hand.append(auc(rows["click"].to_numpy(), rows["ctr"].to_numpy()))
    figure = metrics["backbones"]["network"]["all"]["arms"]["intra"]["click_auc"]
    assert figure["value"] == pytest.approx(np.mean(by_hand), abs=1e-6)
    assert figure["low"] < figure["value"] < figure["high"]
    assert figure["spread"] == pytest.approx(np.std(by_hand, ddof=1), abs=1e-6)
    assert summary["intra_click_auc"] == pytest.approx(figure["value"], abs=1e-5)


def test_contrasts_are_differences_of_arms(finished):
    _, _, metrics, _ = finished
    for group in metrics["backbones"]["network"].values():
        value = {arm: figures["ctcvr_auc"]["value"] for arm, figures in group["arms"].items()}
        found = {name: one["ctcvr_auc"]["value"] for name, one in group["contrasts"].items()}
        assert found["both - base"] == pytest.approx(value["both"] - value["base"])
        main = value["intra"] - value["base"] + value["both"] - value["cross"]
        assert found["codes"] == pytest.approx(main / 2)
        together = value["both"] - value["intra"] - value["cross"] + value["base"]
        assert found["interaction"] == pytest.approx(together)
    kinds = metrics["contrasts"]
    assert kinds == {
        **dict.fromkeys(["intra - base", "cross - base", "both - base"], "lift"),
        **dict.fromkeys(["codes", "sequence", "interaction"], "effect"),
    }


def test_both_backbones_fit_every_arm_and_control(full):
    context, metrics = full
    assert list(metrics["backbones"]) == ["lightgbm", "network"]
    for groups in metrics["backbones"].values():
        assert set(groups["all"]["arms"]) == set(VARIANTS)
        assert groups["all"]["arms"]["base"]["click_auc"]["value"] > 0.7
    assert metrics["contrasts"]["both - both:shuffled"] == "loss"
    assert metrics["contrasts"]["both:shuffled - base"] == "control"
    models = {path.name: path for path in (context.out / "models").iterdir()}
    assert sorted(models) == ["lightgbm", "network"]
    assert sorted(path.name for path in models["lightgbm"].iterdir()) == sorted([*ARMS, "vectors"])
    for table in ranking_tables(metrics):
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_a_control_changes_what_it_says(full):
    predictions = read_parquet(full[0].out / "predictions.parquet", schema.PREDICTIONS)

    def ctr(arm):
        rows = pc.and_(
            pc.equal(predictions["arm"], arm), pc.equal(predictions["backbone"], "network")
        )
        return predictions.filter(rows)["ctr"].to_numpy()

    found = [ctr(variant).tobytes() for variant in VARIANTS]
    assert len(set(found)) == len(VARIANTS)


def test_a_killed_comparison_goes_on_and_ends_with_the_same_bytes(
    upstream, finished, tmp_path, monkeypatch
):
    whole = finished[0]
    context = context_for(upstream, tmp_path, NETWORK)
    fit, fits = Network.fit, []

    def killed_at_the_fifth(self, *args, **settings):
        fits.append(settings["seed"])
        if len(fits) == 5:
            raise KeyboardInterrupt
        return fit(self, *args, **settings)

    monkeypatch.setattr(Network, "fit", killed_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        rank(context)
    rank(context)
    assert len(fits) == 9  # 4, the one that was killed, and the 4 that were left
    shown = [path.name for path in context.out.iterdir() if not path.name.startswith(".")]
    assert sorted(shown) == [
        "metrics.json",
        "models",
        "predictions.parquet",
    ]
    for name in ("metrics.json", "predictions.parquet"):
        assert (context.out / name).read_bytes() == (whole.out / name).read_bytes()
    kept = [path.relative_to(whole.out) for path in (whole.out / "models").rglob("*")]
    assert kept
    for name in kept:
        there = context.out / name
        assert there.is_dir() or there.read_bytes() == (whole.out / name).read_bytes()


def test_without_a_base_arm_there_are_no_contrasts(upstream, tmp_path):
    context = context_for(upstream, tmp_path, market_run.recipe(rank=RankSection(arms=("cross",))))
    rank(context)
    metrics = read_json(context.out / "metrics.json")
    assert metrics["contrasts"] == {}
    assert list(metrics["backbones"]["network"]["all"]["arms"]) == ["cross"]


def test_texts_of_another_model_need_features_of_their_own(upstream, tmp_path):
    texts = market_run.recipe(
        rank=RankSection(arms=("base", "both"), texts=("policy", "sft")),
        features=FeaturesSection(sub_vectors=4, bits=3, texts=("policy", "sft")),
    )
    context = context_for(upstream, tmp_path, texts)
    with pytest.raises(ConfigError, match="name it in features"):
        rank(context)
    features = tmp_path / "features"
    features.unlink()
    features.mkdir()
    for name in ("features.parquet", "codebook.json"):
        for folder in (features, features / "sft"):
            folder.mkdir(exist_ok=True)
            (folder / name).symlink_to(upstream[1] / "features" / name)
    rank(context)
    metrics = read_json(context.out / "metrics.json")
    # the texts are the same here, so nothing may change
    difference = metrics["backbones"]["network"]["all"]["contrasts"]["both - both:sft"]
    assert difference["click_auc"]["value"] == 0
    assert metrics["contrasts"]["both:sft - base"] == "lift"


def test_with_clicks_as_the_goal_predictions_and_tables_are_of_clicks(upstream, tmp_path):
    shutil.copytree(upstream[1] / "construct", tmp_path / "construct")
    (tmp_path / "features").symlink_to(upstream[1] / "features")
    contents = Contents(conversions=0, goal="click", sampled=True)
    write_json(contents.to_json(), tmp_path / "construct" / "contents.json")
    recipe = market_run.recipe(rank=RankSection(arms=("base", "both")))
    context = market_run.context(tmp_path, "rank", recipe)
    summary = rank(context)
    assert set(summary) == {"base_click_auc", "both_click_auc"}
    predictions = read_parquet(context.out / "predictions.parquet", schema.PREDICTIONS)
    for name in ("conversion", "ctcvr"):
        assert predictions[name].null_count == predictions.num_rows
    rows = predictions.filter(pc.equal(predictions["arm"], "base"))
    click, ctr = rows["click"].to_numpy(), rows["ctr"].to_numpy()
    metrics = read_json(context.out / "metrics.json")
    arm = metrics["backbones"]["network"]["all"]["arms"]["base"]
    assert arm["click_auc"]["value"] == pytest.approx(auc(click, ctr), abs=1e-6)
    users = rows["user_id"].to_numpy(zero_copy_only=False)
    assert arm["click_gauc"]["value"] == pytest.approx(gauc(click, ctr, users), abs=1e-6)
    assert not [name for name in arm if "ctcvr" in name]
    tables = ranking_tables(metrics, contents.to_json())
    assert tables
    assert all("CTCVR" not in table.title for table in tables)
    assert all("sampled exposures" in table.title for table in tables)
    assert "conversions" not in tables[0].caption
