import math
import random

import pyarrow as pa
import pytest

from taiji.errors import DataError, MissingArtifactError
from taiji.store.files import (
    append_jsonl,
    read_json,
    read_jsonl,
    read_parquet,
    write_json,
    write_parquet,
)

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("x", pa.float64())])


def table(*ids: str) -> pa.Table:
    return pa.table({"x": [float(len(i)) for i in ids], "id": list(ids)})


def test_parquet_round_trip_orders_and_casts_columns(tmp_path):
    write_parquet(table("a", "bb"), tmp_path / "t.parquet", SCHEMA)
    back = read_parquet(tmp_path / "t.parquet", SCHEMA)
    assert back.schema == SCHEMA
    assert back.to_pylist() == [{"id": "a", "x": 1.0}, {"id": "bb", "x": 2.0}]
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_a_missing_column_and_a_forbidden_null_are_named(tmp_path):
    with pytest.raises(DataError, match="no column x"):
        write_parquet(pa.table({"id": ["a"]}), tmp_path / "t.parquet", SCHEMA)
    nulls = pa.table({"id": pa.array(["a", None]), "x": [1.0, 2.0]})
    with pytest.raises(DataError, match="column id: 1 null"):
        write_parquet(nulls, tmp_path / "t.parquet", SCHEMA)
    assert not list(tmp_path.iterdir())


def test_a_flipped_bit_never_reads_back_as_data(tmp_path):
    path = tmp_path / "t.parquet"
    rows = table(*(f"user-{i}" for i in range(2000)))
    write_parquet(rows, path, SCHEMA)
    good = path.read_bytes()
    expected = read_parquet(path)
    rng = random.Random(7)
    silent = 0
    for _ in range(60):
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(bad))
        try:
            silent += not read_parquet(path, SCHEMA).equals(expected.cast(SCHEMA))
        except DataError:
            continue
    assert silent == 0


def test_a_flipped_bit_in_the_name_of_a_column_is_damage_too(tmp_path):
    """pyarrow reads such a name as text, and says of it that it is none."""
    schema = pa.schema([pa.field("words", pa.float64())])
    path = tmp_path / "t.parquet"
    write_parquet(pa.table({"words": [1.0]}), path, schema)
    good, outcomes = path.read_bytes(), []
    for place in range(len(good) - 5):
        if good[place : place + 5] == b"words":
            path.write_bytes(good[:place] + b"\xe5" + good[place + 1 :])
            try:  # a copy of the name that nobody reads may be damaged
                outcomes.append(read_parquet(path, schema).to_pylist())
            except DataError:
                outcomes.append("damaged")
    assert "damaged" in outcomes
    assert all(outcome in ("damaged", [{"words": 1.0}]) for outcome in outcomes)


def test_an_absent_file_says_what_to_do(tmp_path):
    with pytest.raises(MissingArtifactError, match="run the stage"):
        read_parquet(tmp_path / "t.parquet")
    with pytest.raises(MissingArtifactError, match="run the stage"):
        read_json(tmp_path / "t.json")


def test_json_refuses_nan_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "v.json"
    write_json({"a": 1}, path)
    with pytest.raises(ValueError, match="Out of range"):
        write_json({"a": math.nan}, path)
    assert read_json(path) == {"a": 1}


def test_broken_json_is_a_data_error(tmp_path):
    (tmp_path / "v.json").write_text("{")
    with pytest.raises(DataError, match=r"v\.json"):
        read_json(tmp_path / "v.json")


def test_a_cut_last_line_is_dropped_and_a_broken_one_is_not(tmp_path):
    path = tmp_path / "m.jsonl"
    assert read_jsonl(path) == []
    append_jsonl({"step": 1}, path)
    with path.open("a") as stream:
        stream.write('{"step": 2')
    assert read_jsonl(path) == [{"step": 1}]
    path.write_text('{"step"\n{"step": 2}\n')
    with pytest.raises(DataError, match=r"m\.jsonl"):
        read_jsonl(path)


def test_only_the_rows_that_are_asked_for_are_read(tmp_path):
    path, columns = tmp_path / "t.parquet", pa.schema([("name", pa.string()), ("n", pa.int64())])
    write_parquet(
        pa.table({"name": ["a", "b", "a"], "n": [1, 2, 3]}, schema=columns), path, columns
    )
    assert read_parquet(path, columns, only=("name", ["a"]))["n"].to_pylist() == [1, 3]
    assert read_parquet(path, columns, only=("name", [])).num_rows == 0
