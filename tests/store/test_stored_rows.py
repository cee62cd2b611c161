import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taiji.errors import DataError
from taiji.store.stored_rows import StoredRows

SCHEMA = pa.schema([pa.field("n", pa.int64(), nullable=False), pa.field("of", pa.string())])
TABLE = pa.table({"n": range(20), "of": [f"s{n % 3}" for n in range(20)]}, SCHEMA)


@pytest.fixture
def path(tmp_path):
    pq.write_table(TABLE, tmp_path / "t.parquet", row_group_size=6, write_page_checksum=True)
    return tmp_path / "t.parquet"


@pytest.mark.parametrize("places", [range(20), [3, 4, 5, 6, 19], [19, 0, 7, 7], []])
def test_chosen_rows_come_in_their_order_from_whatever_row_group(path, places):
    rows = StoredRows(path, SCHEMA, np.array(places, dtype=np.int64))
    expected = TABLE.take(pa.array(places, pa.int64()))
    assert rows.num_rows == expected.num_rows
    assert rows.slice(0, 100).equals(expected)
    assert rows.slice(1, 2).equals(expected.slice(1, 2))
    assert rows.column("of").to_pylist() == expected["of"].to_pylist()
    assert list(rows.dicts()) == expected.to_pylist()


def test_rows_are_chosen_among_the_chosen(path):
    rows = StoredRows(path, SCHEMA, np.arange(4, 20))
    some = rows.where([n % 5 == 0 for n in range(4, 20)])
    assert some.slice(0, 9)["n"].to_pylist() == [5, 10, 15]
    assert some.take(np.array([2, 0]))["n"].to_pylist() == [15, 5]


def test_only_the_row_group_at_hand_is_read(path, monkeypatch):
    read = []
    whole = pq.ParquetFile.read_row_group

    def reading(file, number, columns):
        read.append(number)
        return whole(file, number, columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", reading)
    list(StoredRows(path, SCHEMA, np.arange(20)).dicts())
    rows = StoredRows(path, SCHEMA, np.arange(20))
    assert [rows.slice(start, 2).num_rows for start in range(0, 20, 2)] == [2] * 10
    assert read == [0, 1, 2, 3] * 2


def test_a_damaged_file_is_named(path):
    rows = StoredRows(path, SCHEMA, np.arange(20))
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"t\.parquet: damaged Parquet"):
        rows.slice(0, 20)
    path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"t\.parquet: damaged Parquet"):
        StoredRows(path, SCHEMA, np.arange(20))
