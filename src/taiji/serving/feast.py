"""`taiji features feast`: a run's features as Feast knows features.

A folder with a table and its definitions. Whose sequence a user borrows is not in it.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from taiji.errors import RunDirectoryError
from taiji.schema import EXAMPLES, TIME, USER_FEATURES
from taiji.serving.run import ServedRun
from taiji.store.files import read_parquet, replacing, write_parquet

TABLE = "taiji_features.parquet"

FEAST = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("event_timestamp", TIME, nullable=False),
        pa.field("taiji_codes", pa.list_(pa.int32()), nullable=False),
        pa.field("taiji_sequence", pa.list_(pa.string()), nullable=False),
    ]
)

_CONFIG = """\
project: taiji
registry: registry.db
provider: local
online_store:
  type: sqlite
  path: online.db
entity_key_serialization_version: 3
"""

_DEFINITIONS = '''\
"""Language features of users, version {version}: `feast apply` registers them."""

from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Int32, String

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)

taiji_features = FeatureView(
    name="taiji_features",
    entities=[user],
    ttl=timedelta(seconds={ttl_seconds}),
    schema=[
        Field(name="user_id", dtype=String),
        Field(name="taiji_codes", dtype=Array(Int32), description="intra-user: sparse ids"),
        Field(name="taiji_sequence", dtype=Array(String), description="cross-user: item ids"),
    ],
    source=FileSource(
        name="taiji_features_source",
        path=str(Path(__file__).parent / "{table}"),
        timestamp_field="event_timestamp",
    ),
    tags={{"version": "{version}"}},
)

taiji = FeatureService(name="taiji", features=[taiji_features])
'''


def write_feast(run: ServedRun, folder: Path) -> int:
    """Write table and definitions into a new folder; return the rows of the table.

    Each row is as of the moment before which the run looked at the user.

    Raises:
        RunDirectoryError: The folder holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise RunDirectoryError(f"{folder}: is not empty: give a new folder")
    run.verified  # noqa: B018  # raises
    folder.mkdir(parents=True, exist_ok=True)
    features = read_parquet(run.features / "features.parquet", USER_FEATURES)
    examples = read_parquet(run.construct / "examples.parquet", EXAMPLES)
    asked = examples.select(["example_id", "cutoff"])
    places = pc.index_in(features["example_id"], value_set=asked["example_id"].combine_chunks())
    table = pa.table(
        {
            "user_id": features["user_id"],
            "event_timestamp": asked["cutoff"].take(places),
            "taiji_codes": features["codes"],
            "taiji_sequence": features["neighbour_item_ids"],
        }
    )
    write_parquet(table, folder / TABLE, FEAST)
    version = run.version_id.removeprefix("sha256:")[:12]
    ttl = run.recipe.serve.ttl_seconds
    definitions = _DEFINITIONS.format(version=version, ttl_seconds=ttl, table=TABLE)
    for name, text in (("feature_store.yaml", _CONFIG), ("taiji_features.py", definitions)):
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return int(table.num_rows)
