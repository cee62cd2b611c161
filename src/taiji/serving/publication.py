"""`taiji features publish`: a run's features go into the store, then readers are switched to them.

The features of the newest look at each user are taken, with what the run knew of them as their
age. Erased users stay erased in the new version, and users of the log wait for a refresh, since the
new version's features know nothing of their events. Events that its run knows leave the log.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from taiji.data.engine.duckdb_engine import DuckDbEngine
from taiji.errors import ConfigError
from taiji.schema import TIME, USER_FEATURES
from taiji.serving.blobs import UserBlob, erased_blob
from taiji.serving.lenders import SPLIT
from taiji.serving.log import EventLog
from taiji.serving.pruning import prune
from taiji.serving.run import ServedRun
from taiji.serving.store.protocol import FOREVER, AsOf, OnlineStore, Record
from taiji.stages.parts.erased import Tombstones, UserNames
from taiji.store.files import digest_file

_BATCH = 1000

# The newest look at each user, of which `data.refresh` may have many, and the newest that the run
# knew by then. Between two looks nothing may have happened: the store could not tell them apart.
_ROWS = """
WITH looks AS (
    SELECT
        features.*,
        asks.cutoff,
        row_number() OVER (PARTITION BY features.user_id ORDER BY asks.cutoff DESC) AS place
    FROM features
    JOIN asks ON asks.example_id = features.example_id
    WHERE features.split = '{split}'
),
shown AS (SELECT * FROM looks WHERE place = 1),
moments AS (
    SELECT user_id, ts FROM interactions UNION ALL SELECT user_id, ts FROM events
),
newest AS (
    SELECT shown.example_id, max(moments.ts) AS ts
    FROM shown
    JOIN moments ON moments.user_id = shown.user_id AND moments.ts < shown.cutoff
    GROUP BY shown.example_id
)
SELECT
    shown.user_id, shown.codes, shown.neighbour_item_ids, shown.neighbour_user_id, shown.reason,
    newest.ts
FROM shown
LEFT JOIN newest ON newest.example_id = shown.example_id
ORDER BY shown.user_id
"""


@dataclass(frozen=True)
class Publication:
    """What was done.

    Attributes:
        version: Now in force.
        num_users: Users that were written; 0 if the version was in force already.
        num_waiting: Users of the log who wait for a refresh.
        num_dropped: Events that left the log, because the runs of all kept versions know them.
    """

    version: int
    num_users: int = 0
    num_waiting: int = 0
    num_dropped: int = 0


@dataclass(frozen=True)
class State:
    """What a publication touches."""

    store: OnlineStore
    log: EventLog
    tombstones: Tombstones
    names: UserNames


def description(run: ServedRun) -> str:
    """What a version says of itself: which run, and digests of all that its features rest on."""
    told = {
        "id": run.version_id,
        "run": run.root.absolute().name,
        "encoder": run.recipe.encoder.model,
        "codebook": digest_file(run.features / "codebook.faiss"),
        "index": digest_file(run.features / "embeddings.npy"),
    }
    return json.dumps(told, sort_keys=True)


def version_of(run: ServedRun, store: OnlineStore) -> int | None:
    """The newest version that this run's features belong to, if it is still kept."""
    described = store.versions().described
    own = [v for v, text in described.items() if json.loads(text)["id"] == run.version_id]
    return max(own, default=None)


def publish(run: ServedRun, state: State, *, anew: bool = False) -> Publication:
    """Fill a new version from a run and put it into force.

    A run whose version is in force is left alone. Killed on the way it leaves readers where they
    were, and is begun again.

    Args:
        anew: Fill a new version even then.

    Raises:
        DataError: An artifact is damaged.
        UnavailableError: The store does not answer.
    """
    run.verified  # noqa: B018  # raises
    current = state.store.versions().current
    if not anew and current is not None and version_of(run, state.store) == current:
        return Publication(current)
    version = state.store.add_version(description(run))
    num_users = 0
    ttl = run.recipe.serve.ttl_seconds
    for rows in _rows(run):
        records = [_record(row, state.names) for row in rows.to_pylist()]
        erased = state.tombstones.among([record.name for record in records])
        kept = [record for record in records if record.name not in erased]
        state.store.write(version, kept, ttl)
        num_users += len(kept)
    gone = state.tombstones.all()
    for start in range(0, len(gone), _BATCH):
        marks = [Record(name, FOREVER, erased_blob()) for name in gone[start : start + _BATCH]]
        state.store.write(version, marks, ttl)
    state.store.switch(version)
    num_waiting = state.log.await_everyone()  # before their events leave the log
    return Publication(version, num_users, num_waiting, _drop_known(run, state))


def roll_back(state: State) -> int:
    """Put the version before into force and return it; it knows no event that came since."""
    version = state.store.rollback()
    state.log.await_everyone()
    return version


def _drop_known(run: ServedRun, state: State) -> int:
    """A run that is no longer there can serve nobody, and nothing is kept for it."""
    described = map(json.loads, state.store.versions().described.values())
    roots = {run.root.absolute().parent / told["run"] for told in described}
    there = [root for root in sorted(roots) if (root / "construct" / "events.parquet").is_file()]
    return prune(there, state.log, run.state / f".prune-{time.time_ns()}") if there else 0


def publish_first(run: ServedRun, state: State) -> Publication | None:
    """Publish a run if nothing is in force yet."""
    return None if state.store.versions().current is not None else publish(run, state)


def require_version(run: ServedRun, store: OnlineStore) -> int:
    """The version that this run's workers write to.

    Raises:
        ConfigError: The run is not published, or another is in force.
    """
    version = version_of(run, store)
    if version is None or version != store.versions().current:
        raise ConfigError(
            f"{run.root}: not published, or not in force: serve the run that is, or "
            f"`taiji features publish {run.root}`"
        )
    return version


def _rows(run: ServedRun) -> Iterator[pa.Table]:
    """The users of the version, some at a time; `ts` in microseconds, null without a past."""
    scratch = run.state / f".publish-{time.time_ns()}"
    engine = DuckDbEngine(scratch, memory_gib=run.recipe.engine_memory_gib)
    try:
        for name in ("interactions", "events"):
            engine.read(name, [run.construct / f"{name}.parquet"])
        engine.read("asks", [run.construct / "examples.parquet"], ["example_id", "cutoff"])
        engine.register("features", _features(run))
        for batch in engine.batches(_ROWS.format(split=SPLIT), _BATCH):
            rows = pa.Table.from_batches([batch])
            micros = rows["ts"].cast(TIME).cast(pa.int64())
            yield rows.set_column(rows.schema.get_field_index("ts"), "ts", micros)
    finally:
        engine.close()


def _features(run: ServedRun) -> pa.Table:
    """Features and default features in one table, with the reason of the latter."""
    schema = pa.schema([*USER_FEATURES, pa.field("reason", pa.string())])
    own = pq.read_table(run.features / "features.parquet")
    own = own.append_column("reason", pa.array([""] * own.num_rows, pa.string()))
    defaults = pq.read_table(run.features / "defaults.parquet")
    return pa.concat_tables([table.select(schema.names).cast(schema) for table in (own, defaults)])


def _record(row: Mapping[str, Any], names: UserNames) -> Record:
    micros = row["ts"] or 0
    lender = names.of(row["neighbour_user_id"]) if row["neighbour_user_id"] else b""
    features = (row["codes"], row["neighbour_item_ids"], micros, time.time(), row["reason"])
    blob = UserBlob(*features, lender)
    return Record(names.of(row["user_id"]), AsOf(micros, 0), blob.pack())
