"""A user's example as of now: the run's tables and the events since, through `construct`'s code.

Both pass the same SQL that merges the lines of an order, the same figures and the same renderer, so
an event gives the prompt that it would have given in the log. The moment is just after the user's
newest event: a prompt depends on what is known and not on when it is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from taiji.config import DataSection
from taiji.data.engine.duckdb_engine import DuckDbEngine
from taiji.data.examples.examples import write_prompts
from taiji.data.examples.past import since_sql
from taiji.data.tables import canonical_sql
from taiji.schema import EXAMPLES, USERS
from taiji.serving.past import Past
from taiji.serving.pruning import SAME_LINE
from taiji.stages.parts.constructed import read_contents
from taiji.store.files import read_parquet

_RUN_LINES = """
SELECT log.user_id, item_id, ts, order_id, kind, cast(quantity as double) AS quantity, price,
    line, note
FROM run_interactions AS log
LEFT SEMI JOIN asked ON asked.user_id = log.user_id
"""

# As `taiji.data.tables.orders` has it, for orders that are in no doubt: those of the run have been
# judged over the whole log, those of events could not be. What a newer run knows counts once.
_LINES = f"""
SELECT
    user_id, item_id, kind, quantity, price, line, note,
    order_id AS order_key,
    max(ts) OVER (PARTITION BY user_id, order_id) AS order_ts
FROM (
SELECT user_id, item_id, ts, order_id, kind, quantity, price, line, note FROM run_lines
UNION ALL
SELECT new.user_id, new.item_id, new.ts, new.order_id, new.kind, new.quantity, new.price,
    new.line, new.note
FROM new_interactions AS new
LEFT ANTI JOIN run_lines AS log ON {SAME_LINE}
)
"""

_EVENTS = """
SELECT DISTINCT user_id, ts, modality, value, weight
FROM (
    SELECT log.user_id, ts, modality, value, weight
    FROM run_events AS log
    LEFT SEMI JOIN asked ON asked.user_id = log.user_id
    UNION ALL
    SELECT user_id, ts, modality, value, weight FROM new_behaviour
)
"""

_USERS = """
SELECT known.user_id, holdout, fields
FROM run_users AS known
LEFT SEMI JOIN asked ON asked.user_id = known.user_id
UNION ALL
SELECT strangers.user_id, false AS holdout, nobody.fields
FROM (SELECT asked.user_id FROM asked LEFT ANTI JOIN run_users ON run_users.user_id = asked.user_id)
    AS strangers
CROSS JOIN nobody
"""

_NEWEST = """
SELECT user_id, max(ts) AS newest
FROM (SELECT user_id, ts FROM interactions UNION ALL SELECT user_id, ts FROM events)
GROUP BY user_id
"""

_ASKS = """
SELECT
    concat_ws('-', 'online', user_id) AS example_id,
    user_id,
    'online' AS split,
    cutoff,
    {since} AS since,
    CAST(NULL AS STRING) AS target_item_id,
    CAST(NULL AS STRING) AS novel_target_item_id,
    CAST(NULL AS ARRAY<STRING>) AS target_item_ids,
    CAST(NULL AS ARRAY<STRING>) AS basket_item_ids,
    row_number() OVER (ORDER BY user_id) AS place
FROM (SELECT user_id, timestampadd(MICROSECOND, 1, newest) AS cutoff FROM newest)
"""

TABLES = ("users", "items", "interactions", "events")


@dataclass(frozen=True)
class Told:
    """What is known of some users.

    Attributes:
        examples: Rows of `schema.EXAMPLES`, by user id; who has no past at all has none.
        event_times: Of each user's newest event, in microseconds since 1970.
    """

    examples: pa.Table
    event_times: Mapping[str, int]


class Histories:
    """Answers for a few users at a time.

    Args:
        construct: The run's folder of that stage.
        section: The recipe's `data`.
        scratch: A folder of its own.
        memory_gib: What DuckDB may hold before it writes to `scratch`.
    """

    def __init__(
        self, construct: Path, section: DataSection, scratch: Path, memory_gib: float
    ) -> None:
        self._section = section
        self._path = scratch / "examples.parquet"
        self._target_kinds = read_contents(construct).target_kinds
        self.engine = DuckDbEngine(scratch, memory_gib=memory_gib)
        for name in TABLES:
            self.engine.read(f"run_{name}", [construct / f"{name}.parquet"])
        self.engine.read("items", [construct / "items.parquet"])
        if section.offer_categories:  # what is on offer is counted from what anybody was shown
            self.engine.read("exposures", [construct / "exposures.parquet"])
        self.engine.register("nobody", _nobody(construct / "users.parquet"))

    def tell(self, users: Sequence[str], past: Past) -> Told:
        """The examples of some users.

        Args:
            users: Whom; also those whom the run does not know.
            past: What the log holds of them.
        """
        asked = pa.table({"user_id": pa.array(sorted(set(users)), pa.string())})
        for name, table in (
            ("asked", asked),
            ("new_interactions", past.interactions),
            ("new_behaviour", past.behaviour),
        ):
            self.engine.register(name, table)
        for name, sql in (
            ("run_lines", _RUN_LINES),
            ("interactions", canonical_sql.INTERACTIONS.format(lines=_LINES)),
            ("events", _EVENTS),
            ("users", _USERS),
            ("newest", _NEWEST),
            ("asks", _ASKS.format(since=since_sql(self._section.history_days))),
        ):
            self.engine.create(name, sql)
        write_prompts(self.engine, self._section, self._path, self._target_kinds)
        newest = self.engine.query("SELECT user_id, newest FROM newest")
        micros = newest["newest"].cast(pa.int64()).to_pylist()
        times = dict(zip(newest["user_id"].to_pylist(), micros, strict=True))
        return Told(read_parquet(self._path, EXAMPLES).sort_by("user_id"), times)

    def close(self) -> None:
        """Let go of the engine."""
        self.engine.close()


def _nobody(users: Path) -> pa.Table:
    """A user whom the run does not know: every field that is declared, none of them known."""
    file = pq.ParquetFile(users)
    first = next(file.iter_batches(1, columns=["fields"]), None)
    declared = [] if first is None or not len(first) else [n for n, _ in first["fields"][0].as_py()]
    field = USERS.field("fields").type
    return pa.table({"fields": pa.array([[(name, None) for name in declared]], field)})
