"""Exposures for a log that has none: what was taken, beside what could have been.

Each target stands as clicked, at its own moment. Beside it stand items that were not taken then,
drawn from all interactions before that moment, so that an item is as likely as it was popular
*by then*. Nobody was ever shown them: their placement is `sampled`, conversions are not known, and
every table says so. A model that ranks well among them has learned who takes what, not what a
page would earn.
"""

from pathlib import Path

from taiji.config import DataSection
from taiji.data.calendar import hash_sql, sample_sql
from taiji.data.engine.protocol import Engine
from taiji.data.tables.target_kinds import kinds_sql
from taiji.errors import DataError
from taiji.schema import EXPOSURES

PLACEMENT = "sampled"

_DIGITS = 8  # of a hash, which make a number below 2^32

# A total order over the log: its rows are numbered from 1, so that any past one can be drawn.
_LOG = """
SELECT
    user_id, item_id, ts, order_id, kind,
    row_number() OVER (ORDER BY ts, user_id, order_id, item_id, kind) AS place
FROM interactions
"""

# `earlier` is how many rows lie strictly before the moment.
_TAKEN = """
WITH moments AS (SELECT ts, min(place) - 1 AS earlier FROM numbered_log GROUP BY ts)
SELECT DISTINCT log.user_id, log.item_id, log.ts, moments.earlier
FROM numbered_log AS log
JOIN moments ON moments.ts = log.ts
WHERE {drawn} AND log.kind IN ({kinds}) AND moments.earlier > 0
"""

_EXPOSURES = """
WITH draws AS (
    SELECT taken.user_id, taken.ts, 1 + {number} % taken.earlier AS place
    FROM taken
    LATERAL VIEW explode(sequence(1, {negatives})) numbers AS turn
),
beside AS (
    SELECT DISTINCT draws.user_id, log.item_id, draws.ts
    FROM draws
    JOIN numbered_log AS log ON log.place = draws.place
),
not_taken AS (
    SELECT beside.user_id, beside.item_id, beside.ts
    FROM beside
    LEFT ANTI JOIN interactions AS own
        ON own.user_id = beside.user_id AND own.item_id = beside.item_id AND own.ts = beside.ts
)
SELECT user_id, item_id, ts, '{placement}' AS placement, 1 AS click,
    cast(NULL as tinyint) AS conversion
FROM taken
UNION ALL
SELECT user_id, item_id, ts, '{placement}' AS placement, 0 AS click,
    cast(NULL as tinyint) AS conversion
FROM not_taken
"""


def sample_exposures(
    engine: Engine, section: DataSection, seed: int, folder: Path, kinds: tuple[str, ...]
) -> int:
    """Write exposures.parquet out of `interactions`; return its rows.

    Args:
        engine: Has `interactions`, and `exposures` as the source gave them.
        section: `sampled_negatives` and `exposure_share` are used.
        seed: Draws both.
        folder: Where the file goes.
        kinds: What counts as taken.

    Raises:
        DataError: The source has exposures of its own.
    """
    if engine.query("SELECT count(*) AS num FROM exposures")["num"][0].as_py():
        raise DataError(
            "data.sampled_negatives: the log has exposures of its own: leave it out, or leave out "
            "data.source.exposures"
        )
    keys = ("log.user_id", "log.item_id", "cast(log.ts as string)")
    drawn = sample_sql(section.exposure_share, f"taken-{seed}", *keys)
    hashed = hash_sql(
        f"beside-{seed}",
        *("taken.user_id", "taken.item_id", "cast(taken.ts as string)", "cast(turn as string)"),
    )
    engine.create("numbered_log", _LOG)
    engine.create("taken", _TAKEN.format(drawn=drawn, kinds=kinds_sql(kinds)))
    sql = _EXPOSURES.format(
        number=_number(hashed), negatives=section.sampled_negatives, placement=PLACEMENT
    )
    path = folder / "exposures.parquet"
    return engine.write(f"SELECT * FROM ({sql}) ORDER BY user_id, ts, item_id", path, EXPOSURES)


def _number(hashed: str) -> str:
    """The first digits of a hash as a number, by means that both engines share."""
    digits = (
        f"cast(instr('0123456789abcdef', substr({hashed}, {n}, 1)) - 1 as bigint)"
        f" * {16 ** (_DIGITS - n)}"
        for n in range(1, _DIGITS + 1)
    )
    return f"({' + '.join(digits)})"
