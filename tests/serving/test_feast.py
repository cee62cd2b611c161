"""Feast, in an environment of its own, takes what `taiji features feast` writes.

Slow: set TAIJI_FEAST to the `bin` folder of an environment with `feast`.
"""

import os
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from parts_at_hand import USERS, shop_run

from taiji.errors import RunDirectoryError
from taiji.serving.feast import TABLE, write_feast

_ASK = """
from feast import FeatureStore
store = FeatureStore(".")
features = store.get_feature_service("taiji")
rows = [{"user_id": "u0"}, {"user_id": "nobody"}]
print(store.get_online_features(features, rows).to_dict())
"""


def test_the_table_names_no_neighbour_and_has_the_moment_of_each_look(tmp_path):
    run = shop_run(tmp_path)
    assert write_feast(run, tmp_path / "feast") == len(USERS)
    table = pq.read_table(tmp_path / "feast" / TABLE)
    assert table.column_names == ["user_id", "event_timestamp", "taiji_codes", "taiji_sequence"]
    assert table["taiji_sequence"][0].as_py() == ["mug", "pot"]
    assert {str(moment) for moment in table["event_timestamp"]} == {"2024-02-01 00:00:00+00:00"}
    compile((tmp_path / "feast" / "taiji_features.py").read_text(), "taiji_features.py", "exec")


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    run = shop_run(tmp_path)
    with pytest.raises(RunDirectoryError, match="is not empty"):
        write_feast(run, tmp_path)


@pytest.mark.slow
def test_feast_registers_and_serves_the_features(tmp_path):
    if "TAIJI_FEAST" not in os.environ:
        pytest.skip("TAIJI_FEAST is not set")
    bin_folder = Path(os.environ["TAIJI_FEAST"])
    folder = tmp_path / "feast"
    write_feast(shop_run(tmp_path), folder)
    env = os.environ | {"PYTHONPATH": "", "FEAST_USAGE": "False"}

    def feast(*words):
        return subprocess.run(
            [*words], cwd=folder, env=env, check=True, capture_output=True, text=True
        ).stdout

    feast(str(bin_folder / "feast"), "apply")
    feast(str(bin_folder / "feast"), "materialize", "2024-01-01T00:00:00", "2024-03-01T00:00:00")
    told = feast(str(bin_folder / "python"), "-c", _ASK)
    assert "'taiji_codes': [[1, 2], None]" in told
    assert "['mug', 'pot']" in told
