"""A conversion out of a number: among the highest that the user had before (arXiv 2508.20900).

    F(d) = floor(log2(d + 1e-6))
    q = share of the user's own earlier views in the same bucket F whose number is lower
    conversion = 1 where q > 1 - share, else 0; not known after fewer than `least` such views

OneRec-V2's duration-aware shaping of feedback: long clips collect seconds, so a view is compared
with what the same user gave to clips of like length. Earlier is strictly before; nothing later is
read. Ours: views without a click convert nothing, of equal numbers none is lower, and a view is
compared with the `NEWEST` before it at most, or one robot's million views would be compared
with one another.
"""

from collections.abc import Mapping, Sequence

from taiji.config.mapping_fields import OwnTopField
from taiji.data.engine.protocol import Engine
from taiji.data.tables.canonical_sql import COLUMNS, kept_sql
from taiji.data.tables.expressions import Columns
from taiji.data.tables.labels import flag
from taiji.data.tables.rules import Rule

TOPS = ("top_number", "top_bucket", "disliked")
"""Columns of judged exposures from which the conversion follows once all rows are judged."""

SHAPED = "shaped_exposures"
NEWEST = 256

_KEY = ("source", "user_id", "item_id", "ts", "placement")

_SHAPED = """
WITH shown AS (
    {shown}
),
views AS (
    SELECT {key}, top_bucket, top_number, row_number() OVER (
        PARTITION BY user_id, top_bucket ORDER BY ts, item_id, placement, source
    ) AS place
    FROM shown
    WHERE click = 1 AND top_number IS NOT NULL AND top_bucket IS NOT NULL
),
blocks AS (SELECT *, cast(floor(place / {newest}) as bigint) AS block FROM views),
seen AS (
    SELECT *, block AS seen_from FROM blocks
    UNION ALL
    SELECT *, block + 1 AS seen_from FROM blocks
),
compared AS (
    SELECT {own_key}, count(*) AS num_earlier,
        count_if(earlier.top_number < own.top_number) AS num_lower
    FROM blocks AS own
    JOIN seen AS earlier
        ON earlier.user_id = own.user_id
        AND earlier.top_bucket = own.top_bucket
        AND earlier.seen_from = own.block
        AND earlier.place >= own.place - {newest}
        AND earlier.ts < own.ts
    GROUP BY {own_key}
)
SELECT {shown_key}, shown.click,
    CASE
        WHEN shown.click = 0 OR shown.disliked = 1 THEN 0
        WHEN compared.num_lower > shown.below * compared.num_earlier
            AND compared.num_earlier >= shown.least THEN 1
        WHEN compared.num_earlier >= shown.least THEN 0
    END AS conversion,
    shown.advertiser, shown.goal, shown.reported, shown.value
FROM shown
LEFT JOIN compared ON {joined}
"""


def top_columns(field: OwnTopField | None, columns: Columns) -> dict[str, str]:
    """The number, its bucket, whether the user said no, and the words behind them."""
    if field is None:
        return {}
    within = columns.number(field.within)
    word = "cast(NULL as string)" if field.dislike is None else columns.text(field.dislike)
    bucket = f"cast(floor(log2({within} + cast('1e-6' as double))) as bigint)"
    return {
        "top_number": columns.number(field.of),
        "top_within": within,
        "top_bucket": f"CASE WHEN {within} >= 0 THEN {bucket} END",
        "disliked": flag(word),
        "raw_of": columns.word(field.of.column),
        "raw_within": columns.word(field.within.column),
        "raw_dislike": word,
    }


def top_rules(field: OwnTopField | None) -> tuple[Rule, ...]:
    """Numbers that are none, or below 0; a dislike that is neither said nor not."""
    if field is None:
        return ()
    numbers = {"of": "top_number", "within": "top_within"}
    return (
        *(
            Rule(
                f"E102 own_top.{name} is not a number",
                f"own_top.{name}",
                f"{column} IS NULL AND raw_{name} IS NOT NULL",
                f"raw_{name}",
                "set its decimal or strip, or name words in missing",
            )
            for name, column in numbers.items()
        ),
        *(
            Rule(
                f"E111 own_top.{name} is negative",
                f"own_top.{name}",
                f"{column} < 0",
                f"raw_{name}",
                "leave it empty where it is not known",
            )
            for name, column in numbers.items()
        ),
        Rule(
            "E112 own_top.dislike is not 0, 1 or empty",
            "own_top.dislike",
            "disliked IS NULL AND raw_dislike IS NOT NULL",
            "raw_dislike",
            "write 0 or 1; leave it empty where nothing was said",
        ),
    )


def kept_exposures(engine: Engine, numbers: Sequence[int], tops: Mapping[int, OwnTopField]) -> str:
    """Return the good rows of all raw tables of exposures, as SQL, with every conversion.

    Args:
        engine: Has `judged_<n>`; keeps `SHAPED`, if there is anything to shape.
        numbers: Of all of them.
        tops: Those whose conversions follow from a number; earlier views may stand in any of them.
    """
    plain = [number for number in numbers if number not in tops]
    if not tops:
        return kept_sql("exposures", plain)
    engine.create(SHAPED, shaped_sql(tops))
    shaped = f"SELECT {COLUMNS['exposures']} FROM {SHAPED}"
    return "\nUNION ALL\n".join([*([kept_sql("exposures", plain)] if plain else []), shaped])


def shaped_sql(tops: Mapping[int, OwnTopField]) -> str:
    """Return the good rows of raw tables with conversions out of their numbers."""
    columns = ", ".join((*_KEY, "click", "advertiser", "goal", "reported", "value", *TOPS))
    shown = (
        f"SELECT {columns}, {field.least} AS least, cast('{1 - field.share!r}' as double) AS below "
        f"FROM judged_{number} WHERE fault IS NULL"
        for number, field in tops.items()
    )
    return _SHAPED.format(
        shown="\n    UNION ALL\n    ".join(shown),
        newest=NEWEST,
        key=", ".join(_KEY),
        own_key=", ".join(f"own.{name}" for name in _KEY),
        shown_key=", ".join(f"shown.{name}" for name in _KEY),
        joined=" AND ".join(f"compared.{name} = shown.{name}" for name in _KEY),
    )
