"""Sources without exposures, or without conversions, are told what is missing."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from taiji.errors import DataError
from taiji.schema import EXPOSURES
from taiji.stages.parts.constructed import labelled_exposures
from taiji.store.files import write_parquet


def write(folder, *conversions):
    shown = {"user_id": "u", "item_id": "i", "ts": datetime(2024, 1, 1, tzinfo=UTC)}
    shown |= {"placement": "", "click": 1}
    rows = [shown | {"conversion": conversion} for conversion in conversions]
    write_parquet(pa.Table.from_pylist(rows, EXPOSURES), folder / "exposures.parquet", EXPOSURES)


def test_no_exposures_is_an_error_that_names_the_table_and_how_to_give_it(tmp_path):
    write(tmp_path)
    with pytest.raises(DataError, match=r"none.*data\.source\.exposures \(user_id, item_id, ts"):
        labelled_exposures(tmp_path)


def test_conversions_that_nobody_knows_are_an_error(tmp_path):
    write(tmp_path, None, None)
    with pytest.raises(DataError, match=r"not known.*data\.source\.exposures\.conversion"):
        labelled_exposures(tmp_path)


def test_exposures_whose_conversion_is_not_known_yet_are_left_out_and_counted(tmp_path, caplog):
    write(tmp_path, 1, None, 0)
    assert labelled_exposures(tmp_path)["conversion"].to_pylist() == [1, 0]
    assert "1 exposures left out" in caplog.text
