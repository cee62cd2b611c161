"""DuckDB and Spark make the same tables, counts and refusals of the same files."""

import pyarrow.parquet as pq
import pytest
from data_shop import ITEMS, ORDERS, TABLES, shop, write_shop

from taiji.config import DataSection
from taiji.data.engine import open_engine
from taiji.data.tables.canonical import prepare_all

ORDERS_WITH_FAULTS = (
    ORDERS
    + "bob,ghost,2024-02-05T09:30:00Z,o3,1,80.00\nbob,rug,05.02.2024,o3,1,80\n,rug,x,o,1,1\n"
    + "bob,rug,2024-02-05T09:30:00,o4,1,1\nbob,rug,2999-02-05T09:30:00Z,o4,1,1\ntorn\n"
    + "bob,rug,2024-02-05T11:30:00+02:00,o4,2,7\nbob,rug,2024-02-05T09:31:00Z,o4,1,5.50\n"
)
BEHAVIOURS = "1\tann\t11/15/2023 12:22:32 PM\tmug-1 pot-0\n2\tbob\t1/5/2023 1:02:03 AM\t\n"


@pytest.mark.slow
def test_both_engines_give_the_same(tmp_path):
    pytest.importorskip("pyspark")
    write_shop(tmp_path, items=ITEMS + "mug,Mug,x\n,?,\n", orders=ORDERS_WITH_FAULTS)
    (tmp_path / "people.csv").write_text("id,town\nann,Köln\nann,Ulm\nzoe,NaN\n", "utf-8")
    (tmp_path / "shown.tsv").write_text(BEHAVIOURS)
    (tmp_path / "views.jsonl").write_text('{"c": "ann", "q": "mug", "t": 1704276000.25}\n')
    source = shop(
        tmp_path,
        missing=["NaN"],
        users={"files": "people.csv", "user_id": "id", "profile": {"it's": "town"}},
        exposures={
            "files": "shown.tsv",
            "names": ["n", "user", "time", "shown"],
            "explode": {"column": "shown", "names": ["item", "click"]},
            "user_id": "user",
            "item_id": "item",
            "ts": {
                "column": "time",
                "format": "%m/%d/%Y %I:%M:%S %p",
                "timezone": "America/New_York",
            },
            "click": "click",
        },
        events={"files": "views.jsonl", "modality": "search", "user_id": "c", "value": "q"}
        | {"ts": {"column": "t", "format": "s"}},
    )
    section = DataSection.model_validate({"source": source, "exposure_share": 0.9})
    found = []
    for kind in ("duckdb", "spark"):
        (tmp_path / kind).mkdir()
        with open_engine(kind, tmp_path / kind / "scratch") as engine:
            result = prepare_all(engine, section, 17, tmp_path / kind)
        tables = {n: pq.read_table(tmp_path / kind / f"{n}.parquet").to_pylist() for n in TABLES}
        found.append((result.counts, result.problems, tables))
    assert found[0] == found[1]
    assert len(found[0][2]["interactions"]) == 5
