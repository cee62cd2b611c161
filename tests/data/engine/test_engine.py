"""What every engine promises; Spark's part takes a minute of one session and is slow."""

import hashlib
import os
import shutil
import sys
from contextlib import closing
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from taiji.data.engine import open_engine
from taiji.data.engine.duckdb_engine import DuckDbEngine
from taiji.data.engine.parquet_stream import write_batches
from taiji.errors import DataError, EngineError, ResourceError
from taiji.schema import TIME

ROWS = pa.table(
    {
        "user_id": ["u2", "u1", "u1", None],
        "ts": pa.array([datetime(2017, 7, 1, 3, tzinfo=UTC)] * 4, TIME),
        "price": [1.5, None, 2.5, 0.5],
    }
)
KEY = "md5(concat_ws('-', a.n, b.n))"
DOUBLED = pa.schema([pa.field("user_id", pa.string()), pa.field("twice", pa.float64())])


def doubling():
    def double(batch):  # inside, because a worker cannot import this file
        return pa.RecordBatch.from_arrays(
            [batch["user_id"], pc.multiply(batch["price"], 2)], schema=DOUBLED
        )

    return double


@pytest.fixture(scope="module", params=["duckdb", pytest.param("spark", marks=pytest.mark.slow)])
def engine(request, tmp_path_factory):
    if request.param == "spark":
        pytest.importorskip("pyspark")
        if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
            pytest.skip("no Java")
    with open_engine(request.param, tmp_path_factory.mktemp("engine") / "scratch") as opened:
        opened.register("rows", ROWS)
        yield opened


def test_files_are_read_by_name_and_glob(engine, tmp_path):
    for number in range(2):
        pq.write_table(ROWS.slice(2 * number, 2), tmp_path / f"part-{number}.parquet")
    engine.read("all_rows", [tmp_path / "part-*.parquet"])
    assert engine.columns("all_rows") == ["user_id", "ts", "price"]
    assert engine.query("SELECT count(*) AS num FROM all_rows").to_pylist() == [{"num": 4}]
    engine.read("prices", [tmp_path / "part-0.parquet"], ["price"])
    assert engine.columns("prices") == ["price"]


def test_a_path_without_files_is_an_error_that_names_it(engine, tmp_path):
    with pytest.raises(DataError, match=r"none-\*\.parquet"):
        engine.read("nothing", [tmp_path / "none-*.parquet"])


def test_nan_and_nanoseconds_of_a_file_are_what_they_are(engine, tmp_path):
    """As pandas writes them. Without care DuckDB takes no NaN of a file for one."""
    moment = datetime(2017, 7, 1, 3, 0, 0, 250)
    table = pa.table(
        {"price": [1.0, float("nan")], "ts": pa.array([moment] * 2, pa.timestamp("ns"))}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    engine.read("prices", [tmp_path / "*.parquet"])
    engine.create("nans", "SELECT isnan(price) AS it, cast(ts as timestamp_ntz) AS ts FROM prices")
    rows = engine.query("SELECT it, ts FROM nans ORDER BY it").to_pylist()
    assert rows == [{"it": False, "ts": moment}, {"it": True, "ts": moment}]


def test_times_come_back_in_utc_and_local_hours_follow_the_zone(engine):
    local = "convert_timezone('UTC', 'America/New_York', CAST(ts AS TIMESTAMP_NTZ))"
    sql = f"SELECT ts, hour({local}) AS hour, CAST({local} AS DATE) AS day FROM rows LIMIT 1"
    (row,) = engine.query(sql).to_pylist()
    assert row["ts"] == datetime(2017, 7, 1, 3, tzinfo=UTC)
    assert (row["hour"], row["day"].isoformat()) == (23, "2017-06-30")


def test_the_dialect_means_the_same_everywhere(engine):
    sql = """
    SELECT
        percentile_disc(0.25) WITHIN GROUP (ORDER BY price) AS low,
        percentile_disc(0.75) WITHIN GROUP (ORDER BY price) AS high,
        count_if(price > 1) AS num,
        array_sort(collect_set(user_id)) AS users,
        transform(array_sort(collect_list(named_struct('price', price, 'user', user_id))),
            x -> x.user) AS by_price,
        min(md5(concat_ws('|', 'salt', user_id, price))) AS hash,
        datediff(DATE '2000-01-10', DATE '2000-01-03') % 7 AS monday
    FROM rows
    WHERE price IS NOT NULL
    """
    keys = ("salt|u2|1.5", "salt|u1|2.5", "salt|0.5")  # concat_ws skips a null
    assert engine.query(sql).to_pylist() == [
        {
            "low": 0.5,
            "high": 2.5,
            "num": 2,
            "users": ["u1", "u2"],
            "by_price": [None, "u2", "u1"],
            "hash": min(hashlib.md5(key.encode()).hexdigest() for key in keys),
            "monday": 0,
        }
    ]


def test_a_table_that_is_created_can_be_replaced(engine):
    engine.create("kept", "SELECT user_id FROM rows WHERE price > 1")
    assert engine.query("SELECT count(*) AS num FROM kept")["num"].to_pylist() == [2]
    engine.create("kept", "SELECT user_id FROM kept WHERE user_id = 'u1'")
    assert engine.query("SELECT user_id FROM kept")["user_id"].to_pylist() == ["u1"]


def test_a_function_over_batches_keeps_the_order_of_the_sql(engine, tmp_path):
    path = tmp_path / "doubled.parquet"
    sql = "SELECT user_id, price FROM rows ORDER BY price DESC NULLS LAST"
    assert engine.map_batches([sql], doubling(), DOUBLED, path, num_rows=2) == 4
    table = pq.read_table(path)
    assert table.schema == DOUBLED
    assert table["twice"].to_pylist() == [5.0, 3.0, 1.0, None]
    assert sorted(child.name for child in tmp_path.iterdir()) == ["doubled.parquet"]


def test_a_result_is_written_in_the_columns_of_the_schema(engine, tmp_path):
    path = tmp_path / "rows.parquet"
    schema = pa.schema([pa.field("price", pa.float32()), pa.field("user_id", pa.string())])
    sql = "SELECT * FROM rows ORDER BY price NULLS LAST"
    assert engine.write(sql, path, schema) == 4
    assert pq.read_table(path).schema == schema
    strict = pa.schema([pa.field("user_id", pa.string(), nullable=False)])
    with pytest.raises(DataError, match="null values where none may be"):
        engine.write(sql, tmp_path / "strict.parquet", strict)
    assert not (tmp_path / "strict.parquet").exists()


def test_batches_hold_at_most_what_is_asked_for(engine):
    batches = list(engine.batches("SELECT price FROM rows ORDER BY price NULLS LAST", num_rows=3))
    assert all(batch.num_rows <= 3 for batch in batches)
    assert pa.Table.from_batches(batches)["price"].to_pylist() == [0.5, 1.5, 2.5, None]


def test_the_scratch_folder_is_gone_at_the_end(tmp_path):
    with open_engine("duckdb", tmp_path / "scratch") as opened:
        assert opened.query("SELECT 1 AS one")["one"].to_pylist() == [1]
    assert not (tmp_path / "scratch").exists()


@pytest.fixture
def narrow(tmp_path):
    """An engine of 128 MiB, and a million rows of 32 characters for it."""
    with closing(DuckDbEngine(tmp_path / "scratch", memory_gib=128 / 1024)) as opened:
        opened.register("tens", pa.table({"n": list(range(1000))}))
        opened.create("many", f"SELECT {KEY} AS key FROM tens AS a CROSS JOIN tens AS b")
        yield opened


def test_a_table_larger_than_memory_goes_through_the_disk(narrow):
    batches = narrow.batches("SELECT key, repeat(key, 8) AS pad FROM many ORDER BY key")
    before, num_rows = "", 0
    for batch in batches:
        keys = batch["key"].to_pylist()
        assert before <= keys[0] <= keys[-1]
        before, num_rows = keys[-1], num_rows + batch.num_rows
    assert num_rows == 1_000_000


def test_memory_that_cannot_suffice_says_what_to_raise(narrow):
    with pytest.raises(ResourceError, match="raise engine_memory_gib"):
        narrow.query("SELECT collect_list(repeat(key, 8)) AS all FROM many")


def test_without_pyspark_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    monkeypatch.setitem(sys.modules, "pyspark.errors", None)
    with (
        pytest.raises(EngineError, match=r"taiji-rec\[spark\]"),
        open_engine("spark", tmp_path / "scratch"),
    ):
        pass


def test_batches_of_any_size_give_the_same_file(tmp_path):
    table = pa.table({"n": list(range(5000)), "lists": [[n] * 3 for n in range(5000)]})
    for size in (7, 1000, 5000):
        batches = table.to_batches(max_chunksize=size)
        assert write_batches(batches, tmp_path / f"{size}.parquet", table.schema) == 5000
    contents = {(tmp_path / f"{size}.parquet").read_bytes() for size in (7, 1000, 5000)}
    assert len(contents) == 1
