"""A key of several parts names one list of parts."""

import itertools

import pyarrow as pa
import pytest

from taiji.data.engine.duckdb_engine import DuckDbEngine
from taiji.data.engine.keys import joined_key

PARTS = ("A", "A-7", "7-12", "12", "-", "--", "", "%2D", "%", "%25", "a|b", "%0")


def keys_of(engine, parts):
    columns = [f"c{n}" for n in range(len(parts[0]))]
    table = {
        c: pa.array(column, pa.string())
        for c, column in zip(columns, zip(*parts, strict=True), strict=True)
    }
    engine.register("parts", pa.table(table))
    return engine.query(f"SELECT {joined_key(*columns)} AS made FROM parts")["made"].to_pylist()


@pytest.mark.parametrize("num_parts", [2, 3])
def test_different_parts_give_different_keys(tmp_path, num_parts):
    engine = DuckDbEngine(tmp_path / "scratch")
    parts = list(itertools.product((*PARTS, None), *[PARTS] * (num_parts - 1)))
    keys = keys_of(engine, parts)
    engine.close()
    assert None not in keys
    assert len(set(keys)) == len(parts)


def test_plain_parts_stay_readable(tmp_path):
    engine = DuckDbEngine(tmp_path / "scratch")
    assert keys_of(engine, [("sft", "A-7", "7-12")]) == ["sft-A%2D7-7-12"]
    engine.close()
