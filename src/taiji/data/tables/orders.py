"""Which lines are one order, and which ids only look like one.

Lines of one order count as simultaneous and have the time of the last of them: only then is the
order known whole, and at its first, a prompt between the two would tell of purchases to come. An
id that is used twice would hold purchases back until its last use. So an order id counts as one
order of a user within one table and one local day. An id on more days, or a word for nothing,
names no order: each of its lines keeps its own time. An id in more than one table is an order in
each of them. All three are told.
"""

from collections.abc import Iterator

from taiji.data.engine.protocol import Engine
from taiji.data.problems import MOST_SAMPLES, Problem
from taiji.data.tables.expressions import literal
from taiji.data.tables.rules import NO_ID

NO_ORDER = (*NO_ID, "-", "--", "?", "0", "-1", "na", "unknown")
"""Words that programs write where there was no order, in lower case."""

NO_ORDER_WORDS = ", ".join(map(literal, NO_ORDER))

# `{kept}` are good lines with `source`, the number of their raw table.
ORDER_IDS = """
WITH lines AS (
    SELECT
        source, user_id, order_id, ts,
        CAST(convert_timezone('UTC', '{timezone}', ts) AS DATE) AS day
    FROM ({kept})
    WHERE order_id IS NOT NULL
),
ids AS (
    SELECT
        source, user_id, order_id,
        count(*) AS num_lines,
        max(ts) AS last_ts,
        datediff(max(day), min(day)) AS num_days
    FROM lines
    GROUP BY source, user_id, order_id
)
SELECT
    *,
    CASE
        WHEN lower(order_id) IN ({words}) THEN 'word'
        WHEN num_days > 0 THEN 'days'
        WHEN count(*) OVER (PARTITION BY user_id, order_id) > 1 THEN 'tables'
    END AS doubt
FROM ids
"""

# Keys differ by construction: only made ones begin with @, and what follows tells which kind.
LINES = """
SELECT
    lines.user_id, item_id, kind, quantity, price, line, note,
    CASE
        WHEN lines.order_id IS NULL OR doubt IN ('word', 'days')
            THEN concat('@', cast(ts as string))
        WHEN doubt = 'tables' THEN concat('@', cast(lines.source as string), '/', lines.order_id)
        WHEN lines.order_id LIKE '@%' THEN concat('@@', lines.order_id)
        ELSE lines.order_id
    END AS order_key,
    CASE
        WHEN lines.order_id IS NULL OR doubt IN ('word', 'days') THEN ts ELSE last_ts
    END AS order_ts
FROM ({kept}) AS lines
LEFT JOIN order_ids
    ON order_ids.source = lines.source
    AND order_ids.user_id = lines.user_id
    AND order_ids.order_id = lines.order_id
"""

_DOUBTS = """
SELECT doubt, count(*) AS num_ids, sum(num_lines) AS num_lines, max(num_days) AS num_days
FROM order_ids
WHERE doubt IS NOT NULL
GROUP BY doubt
ORDER BY doubt
"""
_SAMPLES = """
SELECT order_id, user_id, num_days
FROM order_ids
WHERE doubt = '{doubt}'
ORDER BY num_days DESC, num_lines DESC, order_id, user_id, source
LIMIT {most}
"""
_UNIQUE = (
    "build an id that is used once, as with a template of shop, date and number, or leave "
    "order_id out"
)
_SAID = {
    "word": (
        "order ids are words for nothing: each of their lines keeps its own time",
        "name them in data.source.missing",
    ),
    "days": (
        "order ids stand on more than one day of a user, up to {num_days} days apart: each of "
        "their lines keeps its own time",
        _UNIQUE,
    ),
    "tables": (
        "order ids of a user stand in more than one table: each is an order of its own",
        _UNIQUE,
    ),
}


def find_orders(engine: Engine, kept: str, timezone: str) -> None:
    """Judge the order ids of the good lines as table `order_ids`.

    Args:
        kept: SELECT of the good lines of all tables.
        timezone: By whose midnight a day ends.
    """
    engine.create("order_ids", ORDER_IDS.format(kept=kept, timezone=timezone, words=NO_ORDER_WORDS))


def doubtful_orders(engine: Engine) -> Iterator[Problem]:
    """Say which ids were not taken for one order, and how many lines they have."""
    (whole,) = engine.query("SELECT sum(num_lines) AS num_lines FROM order_ids").to_pylist()
    for row in engine.query(_DOUBTS).to_pylist():
        what, mend = _SAID[row["doubt"]]
        found = engine.query(_SAMPLES.format(doubt=row["doubt"], most=MOST_SAMPLES)).to_pylist()
        samples = tuple(f"{one['order_id']!r} of user {one['user_id']!r}" for one in found)
        yield Problem(
            "W212",
            "interactions.order_id",
            f"{row['num_ids']:,} {what.format(num_days=row['num_days'])}",
            mend,
            fatal=False,
            rows=int(row["num_lines"]),
            of=int(whole["num_lines"]),
            samples=samples,
        )
