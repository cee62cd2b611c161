import random
import shutil

import pyarrow as pa
import pytest

from taiji.errors import MissingArtifactError
from taiji.store.files import read_parquet
from taiji.store.shards import Shards

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("x", pa.float64())])


def table(*ids: str) -> pa.Table:
    return pa.table({"x": [float(len(i)) for i in ids], "id": list(ids)})


def ids(path) -> list[str]:
    return read_parquet(path, SCHEMA)["id"].to_pylist()


def test_shards_merge_in_order_and_stay_until_the_stage_is_over(tmp_path):
    shards = Shards(tmp_path / "parts", SCHEMA)
    shards.write(1, table("b"))
    assert (shards.done(0), shards.done(1)) == (False, True)
    with pytest.raises(MissingArtifactError, match="run the same command again"):
        shards.merge(2, tmp_path / "all.parquet")
    assert not (tmp_path / "all.parquet").exists()
    shards.write(0, table("a"))
    for _ in range(2):  # killed right after merging, and merged again
        assert Shards(tmp_path / "parts", SCHEMA).merge(2, tmp_path / "all.parquet") == 2
        assert ids(tmp_path / "all.parquet") == ["a", "b"]


def test_no_shards_make_an_empty_table(tmp_path):
    assert Shards(tmp_path / "parts", SCHEMA).merge(0, tmp_path / "all.parquet") == 0
    assert read_parquet(tmp_path / "all.parquet").schema.names == SCHEMA.names


def test_a_part_that_was_swapped_or_brought_from_elsewhere_is_made_again(tmp_path, caplog):
    folder = tmp_path / "run" / "parts.k1"
    shards = Shards(folder, SCHEMA)
    for index, name in enumerate("abc"):
        shards.write(index, table(name))
    first, second, third = sorted(folder.iterdir())
    first.rename(tmp_path / "x")
    second.rename(first)
    (tmp_path / "x").rename(second)
    other = Shards(tmp_path / "run" / "parts.k2", SCHEMA)
    other.write(2, table("z"))
    shutil.copy(tmp_path / "run" / "parts.k2" / third.name, third)
    again = Shards(folder, SCHEMA)
    assert [again.done(index) for index in range(3)] == [False, False, False]
    assert all(path.name in caplog.text for path in (first, second, third))
    assert sorted(path.suffix for path in folder.iterdir()) == [".damaged"] * 3
    for index, name in enumerate("abc"):
        again.write(index, table(name))
    assert again.merge(3, tmp_path / "all.parquet") == 3
    assert ids(tmp_path / "all.parquet") == ["a", "b", "c"]


def test_every_flip_cut_and_extension_of_a_part_is_noticed(tmp_path):
    folder = tmp_path / "parts"
    Shards(folder, SCHEMA).write(0, table(*(f"user-{i}" for i in range(50))))
    (part,) = folder.iterdir()
    good = part.read_bytes()
    rng = random.Random(7)
    for _ in range(100):
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        part.write_bytes(bad)
        assert not Shards(folder, SCHEMA).done(0)
    for bad in (b"", good[:71], good[:-1], good + b"\n", good[1:]):
        part.write_bytes(bad)
        assert not Shards(folder, SCHEMA).done(0)
    part.write_bytes(good)
    assert Shards(folder, SCHEMA).done(0)


def test_a_part_that_is_damaged_after_it_was_found_whole_stops_the_merge_once(tmp_path):
    shards = Shards(tmp_path / "parts", SCHEMA)
    shards.write(0, table("a"))
    assert shards.done(0)
    (part,) = (tmp_path / "parts").iterdir()
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(MissingArtifactError, match="damaged"):
        shards.merge(1, tmp_path / "all.parquet")
    assert not shards.done(0)
