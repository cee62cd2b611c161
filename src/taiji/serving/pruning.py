"""Events that the runs in force know leave the log, so that it grows with the day and not for ever.

An event is known by its place in the canonical tables: a line by user, order, item and kind,
another behaviour by all its columns. It stays as long as the run of any kept version does not know
it, so a rollback loses nothing. Who has no event left waits on: their features are made from the
run's own tables.
"""

from collections.abc import Iterable
from pathlib import Path

from taiji.data.engine.duckdb_engine import DuckDbEngine
from taiji.serving.log import EventLog

SAME_LINE = (
    "log.user_id = new.user_id AND log.order_id = new.order_id "
    "AND log.item_id = new.item_id AND log.kind = new.kind"
)
"""When a line of `new` is one of `log`; their times may differ, an order has that of its last."""

_SAME_BEHAVIOUR = (
    "log.user_id = new.user_id AND log.ts = new.ts AND log.modality = new.modality "
    "AND log.value = new.value AND log.weight <=> new.weight"
)

_KNOWN = f"""
SELECT position FROM new_interactions AS new LEFT SEMI JOIN {{interactions}} AS log ON {SAME_LINE}
UNION ALL
SELECT position FROM new_behaviour AS new LEFT SEMI JOIN {{events}} AS log ON {_SAME_BEHAVIOUR}
"""
_AT_ONCE = 50_000


def prune(runs: Iterable[Path], log: EventLog, scratch: Path) -> int:
    """Drop the events that all of these runs know; return how many.

    Args:
        runs: Directories of the runs whose versions are kept; at least one.
        log: The events.
        scratch: A folder of its own.
    """
    engine = DuckDbEngine(scratch, memory_gib=1.0)
    try:
        known = []
        for number, run in enumerate(runs):
            tables = {name: f"{name}_{number}" for name in ("interactions", "events")}
            for name, called in tables.items():
                engine.read(called, [run / "construct" / f"{name}.parquet"])
            known.append(_KNOWN.format(**tables))
        sql = f"SELECT DISTINCT position FROM ({' INTERSECT '.join(f'({one})' for one in known)})"
        dropped = 0
        for page in log.pages(_AT_ONCE):
            engine.register("new_interactions", page.interactions)
            engine.register("new_behaviour", page.behaviour)
            dropped += log.drop(engine.query(sql)["position"].to_pylist())
        return dropped
    finally:
        engine.close()
