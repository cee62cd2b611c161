import shutil

import market_run
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from weeks import CALENDAR

from taiji import schema
from taiji.alignment.rewards.normalisers import normaliser_from_json
from taiji.config import SimulateSection, ValueSection
from taiji.data.tables.reach import Contents
from taiji.errors import DataError, DivergenceError, EngineError
from taiji.ranking import gradient_boosting
from taiji.ranking.gradient_boosting import load_boosted
from taiji.ranking.train import load_ranker
from taiji.ranking.values import load_value_head
from taiji.stages.simulate import simulate
from taiji.store.files import read_json, read_parquet, write_json, write_parquet


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = tmp_path_factory.mktemp("simulate")
    world = market_run.write_construct(run / "construct")
    context = market_run.context(run, "simulate", market_run.recipe())
    return world, context, simulate(context)


def test_it_leaves_a_ranker_a_pool_a_normaliser_and_figures(finished):
    _, context, summary = finished
    assert sorted(path.name for path in context.out.iterdir()) == [
        "gold",
        "metrics.json",
        "normaliser.json",
        "pool.parquet",
        "ranker",
    ]
    assert load_ranker(context.out / "ranker").placement == "front"
    figures = read_json(context.out / "metrics.json")
    assert figures["ctcvr_auc"] > 0.7
    assert 0 <= figures["interaction_share"] <= 1
    assert 1 <= figures["num_best_items"] <= 10
    assert set(summary) - {"admitted", "gold_judge"} <= set(figures)


def test_the_normaliser_spans_the_pool(finished):
    _, context, _ = finished
    pool = read_parquet(context.out / "pool.parquet", schema.POOL)
    assert pool.num_rows == 200
    normaliser = normaliser_from_json(read_json(context.out / "normaliser.json"))
    scaled = normaliser.apply(pool["score"].to_numpy())
    assert (scaled.min(), scaled.max()) == (0, 1)


def test_held_out_users_are_neither_trained_on_nor_in_the_pool(finished):
    world, context, _ = finished
    held_out = set(world.users.filter(world.users["holdout"])["user_id"].to_pylist())
    assert held_out
    pool = read_parquet(context.out / "pool.parquet", schema.POOL)
    assert not held_out & set(pool["user_id"].to_pylist())
    reward = CALENDAR.window("reward").rows(world.exposures)
    seen = [user for user in reward["user_id"].to_pylist() if user not in held_out]
    assert read_json(context.out / "metrics.json")["training_exposures"] == len(seen)


def test_labels_of_held_out_users_and_of_later_weeks_change_nothing(finished, tmp_path):
    world, context, _ = finished
    market_run.write_construct(tmp_path / "construct")
    held_out = world.users.filter(world.users["holdout"])["user_id"].combine_chunks()
    spoiled = pc.or_(
        pc.is_in(world.exposures["user_id"], value_set=held_out),
        pc.greater_equal(world.exposures["ts"], pa.scalar(CALENDAR.start("ranker"), schema.TIME)),
    )
    flipped = world.exposures
    for name in ("click", "conversion"):
        column = pc.if_else(
            spoiled, pc.subtract(pa.scalar(1, pa.int8()), flipped[name]), flipped[name]
        )
        flipped = flipped.set_column(
            flipped.schema.get_field_index(name), flipped.schema.field(name), column
        )
    write_parquet(flipped, tmp_path / "construct" / "exposures.parquet", schema.EXPOSURES)
    again = market_run.context(tmp_path, "simulate", market_run.recipe())
    simulate(again)
    for name in ("pool.parquet", "ranker/model.safetensors", "normaliser.json"):
        assert (again.out / name).read_bytes() == (context.out / name).read_bytes()


def test_the_discount_knows_every_item_sold_and_takes_from_the_constant_answer(finished, tmp_path):
    _, plain, _ = finished
    market_run.write_construct(tmp_path / "construct")
    section = SimulateSection(pool_pairs=200, popularity_discount=1.0)
    context = market_run.context(tmp_path, "simulate", market_run.recipe(simulate=section))
    simulate(context)
    scale = read_json(context.out / "normaliser.json")
    assert len(scale["discount"]["item_means"]) == 24
    assert read_json(plain.out / "normaliser.json")["discount"] is None
    with_, without = (read_json(c.out / "metrics.json") for c in (context, plain))
    assert with_["constant_capture"] == without["constant_capture"], "of the ranking model"
    assert with_["reward_constant_capture"] < without["reward_constant_capture"]
    assert with_["reward_score_kept"] < without["reward_score_kept"] == 1


def test_the_quantile_normaliser_is_a_setting(tmp_path):
    market_run.write_construct(tmp_path / "construct")
    settings = market_run.recipe(simulate=SimulateSection(pool_pairs=200, normaliser="quantile"))
    context = market_run.context(tmp_path, "simulate", settings)
    simulate(context)
    pool = read_parquet(context.out / "pool.parquet", schema.POOL)["score"].to_numpy()
    description = read_json(context.out / "normaliser.json")
    assert description["high"] == pytest.approx(float(np.quantile(pool, 0.999)))


def test_a_ranking_model_outside_the_bounds_is_refused_or_used_openly(tmp_path, caplog):
    market_run.write_construct(tmp_path / "construct")
    bounds = SimulateSection(pool_pairs=200, min_best_items=99, min_gauc_lead=1.0, gold=False)
    context = market_run.context(tmp_path, "simulate", market_run.recipe(simulate=bounds))
    with pytest.raises(DivergenceError) as refused:
        simulate(context)
    for words in ("min_best_items 99", "min_gauc_lead 1", "simulate.admission=report"):
        assert words in str(refused.value)
    assert "interaction" not in str(refused.value), "that bound is kept"
    openly = bounds.model_copy(update={"admission": "report"})
    (tmp_path / "simulate").rename(tmp_path / "refused")
    context = market_run.context(tmp_path, "simulate", market_run.recipe(simulate=openly))
    assert simulate(context)["admitted"] == "no, by request"
    assert "not fit for it" in caplog.text
    assert len(read_json(context.out / "metrics.json")["admission"]) == 2


def test_the_gold_judge_learns_from_held_out_users_before_the_test_window(finished):
    world, context, summary = finished
    assert summary["admitted"] == "yes"
    assert summary["gold_judge"] == "trained"
    held_out = world.users.filter(world.users["holdout"])["user_id"].combine_chunks()
    early = pc.less(world.exposures["ts"], pa.scalar(CALENDAR.start("test"), schema.TIME))
    theirs = pc.is_in(world.exposures["user_id"], value_set=held_out)
    figures = read_json(context.out / "metrics.json")["gold"]
    expected = world.exposures.filter(pc.and_(early, theirs)).num_rows
    assert figures["training_exposures"] == expected
    assert figures["ctcvr_auc"] > 0.6
    assert load_boosted(context.out / "gold").placement == "front"


def test_without_lightgbm_nothing_is_judged_and_the_reason_is_kept(tmp_path, monkeypatch):
    def missing():
        raise EngineError("gradient boosting: LightGBM is not installed")

    monkeypatch.setattr(gradient_boosting, "lightgbm_library", missing)
    market_run.write_construct(tmp_path / "construct")
    context = market_run.context(tmp_path, "simulate", market_run.recipe())
    assert "LightGBM is not installed" in simulate(context)["gold_judge"]
    assert not (context.out / "gold").exists()
    assert "not judged" in read_json(context.out / "metrics.json")["gold"]["why"]


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    """The same market, of which nobody knows what came of a click."""
    run = tmp_path_factory.mktemp("clicks")
    market_run.write_construct(run / "construct")
    contents = Contents(conversions=0, goal="click")
    write_json(contents.to_json(), run / "construct" / "contents.json")
    context = market_run.context(run, "simulate", market_run.recipe())
    return context, simulate(context)


def test_with_clicks_as_the_goal_figures_are_of_clicks_and_nothing_is_called_ctcvr(clicks):
    context, summary = clicks
    figures = read_json(context.out / "metrics.json")
    assert figures["goal"] == figures["gold"]["goal"] == "click"
    assert figures["click_auc"] > 0.7
    assert {"click_gauc", "click_gauc_popularity", "click_log_loss"} <= set(figures)
    assert not [name for name in (*figures, *figures["gold"], *summary) if "ctcvr_" in name]
    assert load_ranker(context.out / "ranker").model.cvr is None


def valued(world):
    """Outcomes of the exposures: every conversion is worth something."""
    keys = world.exposures.select(schema.OUTCOMES.names[:4])
    random = np.random.default_rng(0)
    worth = random.lognormal(1, 0.5, keys.num_rows)
    converted = np.nan_to_num(world.exposures["conversion"].to_numpy(zero_copy_only=False)) > 0
    more = {
        "advertiser": pa.array([""] * keys.num_rows),
        "goal": pa.nulls(keys.num_rows, pa.string()),
        "reported": pa.array([""] * keys.num_rows),
        "value": pa.array(worth, mask=~converted),
    }
    for name, column in more.items():
        keys = keys.append_column(schema.OUTCOMES.field(name), column)
    return keys.cast(schema.OUTCOMES)


def test_what_a_conversion_is_worth_is_learned_where_the_recipe_asks_for_it(tmp_path):
    world = market_run.write_construct(tmp_path / "construct")
    settings = market_run.recipe()
    ranker = settings.ranker.model_copy(update={"value": ValueSection(kind="ziln")})
    settings = settings.model_copy(update={"ranker": ranker})
    context = market_run.context(tmp_path, "simulate", settings)
    with pytest.raises(DataError, match=r"ranker\.value.*exposures\.value"):
        simulate(context)
    shutil.rmtree(tmp_path / "simulate")
    table = valued(world)
    write_parquet(table, tmp_path / "construct" / "outcomes.parquet", schema.OUTCOMES)
    context = market_run.context(tmp_path, "simulate", settings)
    simulate(context)
    head = load_value_head(context.out / "value")
    figures = read_json(context.out / "metrics.json")["values"]
    assert figures["conversions"] >= 100
    assert 2 < figures["mean"] < 5
    assert head.regressor.section.kind == "ziln"
