import numpy as np
import pyarrow as pa
import pytest
from market_run import context, recipe, write_construct

from taiji import schema
from taiji.config import CeilingSection
from taiji.data.tables.reach import Contents
from taiji.errors import DataError
from taiji.stages.ceiling import ceiling
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.frozen_models import read_world
from taiji.store.files import read_json, read_parquet, write_json, write_parquet

SECTION = CeilingSection(
    refresh=("window", "visit"), names=(1, 2), accuracy=(0.0, 0.5, 1.0), seeds=2, resamples=50
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A market in which `ceiling` has run; users click on two liked shelves of six."""
    folder = tmp_path_factory.mktemp("run")
    write_construct(folder / "construct", num_users=60)
    ceiling(context(folder, "ceiling", recipe(ceiling=SECTION)))
    return folder


@pytest.fixture(scope="module")
def metrics(run):
    return read_json(run / "ceiling" / "metrics.json")


def gains(metrics, refresh, names, among="all"):
    return [
        point["groups"]["all"]["click_auc"]
        for point in metrics["points"]
        if (point["refresh"], point["names"], point["among"]) == (refresh, names, among)
    ]


def test_names_by_chance_add_nothing(metrics):
    for refresh in SECTION.refresh:
        for names in SECTION.names:
            none = gains(metrics, refresh, names)[0]
            assert none["low"] <= 0.002
            assert none["high"] >= -0.002


def test_the_curve_rises_within_its_noise(metrics):
    for refresh in SECTION.refresh:
        for names in SECTION.names:
            curve = gains(metrics, refresh, names)
            noise = max(one["high"] - one["low"] for one in curve) / 2
            assert curve[-1]["value"] >= curve[0]["value"] - noise
            assert curve[-1]["value"] >= curve[1]["value"] - noise


def test_reach_and_truth_of_what_is_named(metrics):
    sure = [point for point in metrics["points"] if point["accuracy"] == 1.0]
    assert all(point["right"] > 0.9 for point in sure)
    for one, two in zip(sure[::2], sure[1::2], strict=True):
        assert one["reach"] < two["reach"]


def test_what_the_log_says_stands_beside_it(metrics):
    lists = {one["list"] for one in metrics["log"]}
    assert lists == {"favourites", "co-purchase", "co-purchase, new"}
    favourites = [one for one in metrics["log"] if one["list"] == "favourites"]
    assert all(one["right"] > 0.5 for one in favourites)  # often right, and known already


def test_words_groups_and_pictures_are_there(run, metrics):
    assert metrics["words"].endswith(".")
    assert set(metrics["base"]) >= {"all", "long_tail"}
    for name in ("curve.svg", "curve.png", "curve.json"):
        assert (run / "ceiling" / name).stat().st_size > 1000


def test_what_follows_a_window_changes_no_list_of_the_log(run, metrics, tmp_path):
    """A purchase planted after everything that is judged."""
    construct = tmp_path / "construct"
    write_construct(construct, num_users=60)
    log = read_parquet(construct / "interactions.parquet", schema.INTERACTIONS)
    rows = log.to_pylist()
    last = max(row["ts"] for row in rows)
    rows += [rows[0] | {"ts": last, "order_id": f"late-{n}"} for n in range(50)]
    write_parquet(
        type(log).from_pylist(rows, log.schema), construct / "interactions.parquet", log.schema
    )
    ceiling(context(tmp_path, "ceiling", recipe(ceiling=SECTION)))
    again = read_json(tmp_path / "ceiling" / "metrics.json")
    key = ("list", "refresh", "names")
    for before, after in zip(metrics["log"], again["log"], strict=True):
        assert [before[name] for name in key] == [after[name] for name in key]
        assert before["groups"] == after["groups"]
        assert before["reach"] == after["reach"]


def test_too_few_clicks_to_fit_on_are_refused(tmp_path):
    construct = tmp_path / "construct"
    write_construct(construct, num_users=60)
    shown = read_parquet(construct / "exposures.parquet", schema.EXPOSURES)
    few = shown.take(np.arange(0, shown.num_rows, 40))
    write_parquet(few, construct / "exposures.parquet", schema.EXPOSURES)
    with pytest.raises(DataError, match=r"clicks in the .* kept from training.*exposure_share"):
        ceiling(context(tmp_path, "ceiling", recipe(ceiling=SECTION)))


def test_what_was_only_looked_at_was_not_bought(tmp_path):
    write_construct(tmp_path / "construct")
    bought = read_world(Constructed(tmp_path / "construct")).purchases.node_E
    path = tmp_path / "construct" / "interactions.parquet"
    log = read_parquet(path, schema.INTERACTIONS)
    views = log.set_column(
        log.schema.get_field_index("kind"), "kind", pa.array(["view"] * len(log))
    )
    both = pa.concat_tables([log, views.cast(log.schema)]).sort_by(
        [("user_id", "ascending"), ("ts", "ascending")]
    )
    write_parquet(both, path, schema.INTERACTIONS)
    contents = Contents(target_kinds=("purchase",))
    write_json(contents.to_json(), tmp_path / "construct" / "contents.json")
    found = read_world(Constructed(tmp_path / "construct")).purchases.node_E
    assert sorted(found.tolist()) == sorted(bought.tolist())
