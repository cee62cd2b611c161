"""Tables as later stages read them."""

import pyarrow.parquet as pq
from data_shop import shop, write_shop

from taiji.config import DataSection
from taiji.data.engine import open_engine
from taiji.data.tables.prepare import prepare_tables


def test_profile_fields_outside_the_allow_list_leave_no_value_for_any_stage(tmp_path):
    write_shop(tmp_path)
    (tmp_path / "people.csv").write_text("id,town,ill\nann,Bonn,asthma\nbob,,gout\n")
    people = {"files": "people.csv", "user_id": "id", "profile": {"city": "town", "illness": "ill"}}
    out = tmp_path / "out"
    out.mkdir()
    section = DataSection.model_validate(
        {"source": shop(tmp_path, users=people), "text": {"fields": ["city"]}}
    )
    with open_engine("duckdb", tmp_path / "scratch") as engine:
        prepare_tables(engine, section, 17, out)
    rows = pq.read_table(out / "users.parquet").to_pylist()
    assert {row["user_id"]: row["fields"] for row in rows} == {
        "ann": [("city", "Bonn"), ("illness", None)],
        "bob": [("city", None), ("illness", None)],
    }
    assert not any(b"asthma" in path.read_bytes() for path in out.glob("*.parquet"))
