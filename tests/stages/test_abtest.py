import market_run
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from weeks import CALENDAR

from taiji import schema
from taiji.config import AbtestSection, RankSection
from taiji.errors import ConfigError, DataError
from taiji.report.abtest_tables import abtest_tables
from taiji.report.cells import NOT_APPLICABLE, cell_text
from taiji.stages.abtest import abtest
from taiji.stages.features import features
from taiji.stages.rank import rank
from taiji.store.files import read_json, read_parquet, write_parquet

NUM_USERS = 130
SECTION = AbtestSection(requests=1500, candidates=6, worlds=1, bucket_share=0.2, salt="s2")
ARMS = RankSection(arms=("base", "both"))


def settings(rank_section=ARMS, **changes):
    return market_run.recipe(rank=rank_section, abtest=SECTION.model_copy(update=changes))


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    run = tmp_path_factory.mktemp("abtest")
    market_run.write_construct(run / "construct", NUM_USERS)
    market_run.write_texts(run / "infer")
    features(market_run.context(run, "features", settings()), market_run.WordEncoder)
    rank(market_run.context(run, "rank", settings()))
    return run


def run_again(upstream, folder, recipe):
    for path in upstream.iterdir():
        (folder / path.name).symlink_to(path)
    ctx = market_run.context(folder, "abtest", recipe)
    return ctx.out, abtest(ctx)


@pytest.fixture(scope="module")
def finished(upstream, tmp_path_factory):
    out, summary = run_again(upstream, tmp_path_factory.mktemp("run"), settings())
    return out, read_json(out / "metrics.json"), summary


def test_the_figures_fill_tables_that_all_say_simulation(finished):
    _, metrics, summary = finished
    tables = {table.key: table for table in abtest_tables(metrics)}
    assert set(tables) == {"abtest", "abtest-buckets", "abtest-controls", "abtest-power"}
    for table in tables.values():
        assert "Simulation" in table.title
        assert {len(row) for row in table.rows} == {len(table.columns)}
    assert [row[0] for row in tables["abtest"].rows] == ["+ both"]
    assert [row[0] for row in tables["abtest-buckets"].rows] == ["+ both", "A/A: base again"]
    lift = metrics["counterfactual"]["all"]["both"]["revenue"]["value"]
    assert cell_text(tables["abtest"].rows[0][1]).startswith(f"{100 * lift:.2f} %")
    assert summary["simulated_both_revenue_lift"] == pytest.approx(100 * lift, abs=1e-3)
    assert tables["abtest-power"].rows[3][2] == NOT_APPLICABLE  # the bootstrap plans nothing


def test_nothing_that_is_written_names_a_user(finished):
    out, metrics, _ = finished
    assert b"u001" not in (out / "metrics.json").read_bytes()
    outcomes = pq.read_table(out / "outcomes.parquet")
    assert not any(pa.types.is_string(field.type) for field in outcomes.schema)
    assert outcomes.num_rows == metrics["users"]["all"]
    total = pc.sum(outcomes["both_revenue"]).as_py() / pc.sum(outcomes["base_revenue"]).as_py() - 1
    assert metrics["counterfactual"]["all"]["both"]["revenue"]["value"] == pytest.approx(total)


def test_what_the_figures_rest_on_is_there(finished):
    _, metrics, _ = finished
    assert metrics["requests"]["measured"] + metrics["requests"]["warmup"] == SECTION.requests
    assert metrics["weeks"] == 7
    assert metrics["advertisers"] == 6
    assert metrics["market"]["cost_ratio"]["base"] == pytest.approx(1.0, abs=0.1)
    assert metrics["response"]["auc_of_features"] > 0.7
    assert all(0 <= p <= 1 for p in metrics["sample_ratio"].values())


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_bytes(finished, upstream, tmp_path):
    first, _, _ = finished
    second, _ = run_again(upstream, tmp_path, settings())
    for name in ("metrics.json", "outcomes.parquet"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"requests": 1600},
        {"candidates": 5},
        {"worlds": 2},
        {"warmup_weeks": 2},
        {"bucket_share": 0.19},
        {"salt": "s3"},
        {"persona": 0.0},
        {"budget": None},
        {"budget": 0.5},
        {"cost_control": False},
    ],
)
def test_every_setting_changes_the_figures(finished, upstream, tmp_path, change):
    _, metrics, _ = finished
    out, _ = run_again(upstream, tmp_path, settings(**change))
    changed = read_json(out / "metrics.json")
    assert changed["buckets"] != metrics["buckets"]


def test_models_that_rank_did_not_train_are_asked_for(upstream, tmp_path):
    with pytest.raises(ConfigError, match=r"`base` to rank\.arms"):
        run_again(upstream, tmp_path, settings(RankSection(arms=("both",))))


def test_too_few_weeks_or_users_are_refused_before_the_long_work(upstream, tmp_path):
    with pytest.raises(DataError, match=r"7 weeks .* 7 warm up.*lower abtest\.warmup_weeks"):
        run_again(upstream, tmp_path, settings(warmup_weeks=7))
    ctx = market_run.context(tmp_path, "again", settings(bucket_share=0.05))
    with pytest.raises(DataError, match=r"raise abtest\.bucket_share"):
        abtest(ctx)


def test_no_exposures_is_an_error_that_says_what_is_missing(upstream, tmp_path):
    for path in upstream.iterdir():
        if path.name != "construct":
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "construct").mkdir()
    for path in (upstream / "construct").iterdir():
        (tmp_path / "construct" / path.name).symlink_to(path)
    exposures = tmp_path / "construct" / "exposures.parquet"
    table = read_parquet(exposures, schema.EXPOSURES)
    early = table.filter(pc.less(table["ts"], CALENDAR.start("test")))
    exposures.unlink()
    write_parquet(early, exposures, schema.EXPOSURES)
    with pytest.raises(DataError, match="no exposure lies in the test window"):
        abtest(market_run.context(tmp_path, "abtest", settings()))
