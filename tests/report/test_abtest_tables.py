import pytest
import small_run

from taiji.abtest.figures import CONTROLS
from taiji.report.abtest_tables import ASSUMPTIONS, abtest_tables
from taiji.report.cells import NOT_APPLICABLE, Measured
from taiji.report.paper_tables import build_tables

MEASURES = ("revenue", "advv", "expected_advv")


def lifts(value, **more):
    figure = {"value": value, "low": value - 0.01, "high": value + 0.01, "pvalue": 0.5}
    return dict.fromkeys(MEASURES, figure | more)


def simulated():
    arms = {"intra": 0.01, "cross": 0.02, "both": 0.05, "interaction": 0.02}
    rows = {arm: lifts(value) for arm, value in arms.items()}
    nothing = {measure: dict.fromkeys(("value", "low", "high")) for measure in MEASURES}
    buckets = {"aa": lifts(0.0, covers_counterfactual=True)}
    buckets["both"] = lifts(0.3, covers_counterfactual=False)
    controls = {name: lifts(0.001) for name in CONTROLS}
    estimates = lifts(0.3, smallest_lift=0.4, users_per_arm=1234.5)
    plain = dict.fromkeys(("mean", "cuped", "per_request"), estimates["revenue"])
    return {
        "counterfactual": {"all": rows, "long_tail": rows | {"intra": nothing}},
        "buckets": {"all": buckets, "long_tail": buckets},
        "controls": {"all": controls, "long_tail": controls},
        "estimators": {
            "arm": "both",
            "measures": {m: plain | {"bootstrap": lifts(0.3)["advv"]} for m in MEASURES},
        },
        "sample_ratio": {"aa": 0.04, "both": 0.6},
        "bucket_users": {"base": 210, "aa": 190, "both": 205},
        "users": {"all": 2100, "long_tail": 1000},
        "requests": {"measured": 17_000, "warmup": 3000},
        "market": {"cost_ratio": {"base": 1.02}},
        "worlds": 5,
        "bucket_share": 0.1,
        "candidates": 20,
        "advertisers": 139,
    }


@pytest.fixture
def tables():
    return {table.key: table for table in abtest_tables(simulated())}


def test_nothing_simulated_is_no_table():
    assert abtest_tables(None) == ()
    assert not [t for t in build_tables(small_run.metrics()) if t.key.startswith("abtest")]


def test_the_tables_of_a_run_hold_those_of_its_simulation():
    keys = [table.key for table in build_tables(small_run.metrics() | {"abtest": simulated()})]
    assert keys[-4:] == ["abtest", "abtest-buckets", "abtest-controls", "abtest-power"]


def test_every_table_says_simulation_and_no_row_lacks_a_cell(tables):
    for table in tables.values():
        assert "Simulation" in table.title
        assert "imulation" in table.caption
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_the_shape_is_that_of_table_2(tables):
    rows = {row[0]: row[1:] for row in tables["abtest"].rows}
    assert list(rows) == [
        "+ intra-user codes",
        "+ cross-user sequence",
        "+ both",
        "Interaction of both",
    ]
    assert rows["+ both"][0] == Measured(0.05, 0.04, pytest.approx(0.06), "rate")
    assert rows["+ intra-user codes"][3] == NOT_APPLICABLE  # nobody in the long tail
    assert all(assumption in tables["abtest"].caption for assumption in ASSUMPTIONS)


def test_the_buckets_stand_beside_their_a_a_and_what_they_cover(tables):
    table = tables["abtest-buckets"]
    assert [row[0] for row in table.rows] == ["+ both", "A/A: base again"]
    assert "190 to 210" in table.caption
    assert "3 of 6 intervals" in table.caption
    assert "0.040" in table.caption


def test_power_is_given_for_what_can_be_planned(tables):
    rows = {row[0]: row[1:] for row in tables["abtest-power"].rows}
    assert rows["ADVV, mean by user, CUPED"][2] == "1,234"
    assert rows["ADVV, mean by user, bootstrap"][1:] == (NOT_APPLICABLE, NOT_APPLICABLE)
