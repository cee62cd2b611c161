"""The queries of `taiji.data.tables.canonical`: from judged rows to the tables of `taiji.schema`.

`judged_<n>` holds every row of raw table n with its `fault`, null if the row is kept.
"""

from collections.abc import Collection, Mapping, Sequence

from taiji.data.problems import MOST_KEPT
from taiji.data.tables.expressions import literal

_TS = "timestamp_ntz '1970-01-01 00:00:00' AS ts"
_ONE = "cast(1 as double)"
_NO_ROWS = {
    "interactions": f"'' AS user_id, '' AS item_id, {_TS}, '' AS order_id, '' AS kind, "
    f"{_ONE} AS quantity, {_ONE} AS price, cast(1 as bigint) AS line, '' AS note, 0 AS source",
    "exposures": f"'' AS user_id, '' AS item_id, {_TS}, '' AS placement, 0 AS click, "
    "0 AS conversion, '' AS advertiser, '' AS goal, '' AS reported, cast(0 as double) AS value",
    "events": f"'' AS user_id, {_TS}, '' AS modality, '' AS value, {_ONE} AS weight",
}
COLUMNS = {
    "items": "item_id, title, category_l1, category_l2, category_l3, brand, shop_price, "
    "latitude, longitude",
    "interactions": "user_id, item_id, ts, order_id, kind, quantity, price, line, note, source",
    "exposures": "user_id, item_id, ts, placement, click, conversion, "
    "advertiser, goal, reported, value",
    "events": "user_id, ts, modality, value, weight",
}


def kept_sql(table: str, numbers: Sequence[int], in_file_order: Collection[int] = ()) -> str:
    """Return the good rows of all raw tables that feed a table.

    Args:
        table: Its name.
        numbers: Of the raw tables.
        in_file_order: Those whose lines stand as in their file, where no column numbers them. It
            is said here, after the judging: a row's place makes it no other row.
    """
    columns = {
        number: COLUMNS[table].replace("line", "coalesce(line, row_no) AS line")
        if number in in_file_order
        else COLUMNS[table]
        for number in numbers
    }
    selects = [
        f"SELECT {named} FROM judged_{number} WHERE fault IS NULL"
        for number, named in columns.items()
    ]
    return "\nUNION ALL\n".join(selects) or f"SELECT {_NO_ROWS[table]} WHERE 1 = 0"


# Rows of one order have one time, its last. The price of merged rows is the mean over their
# pieces, summed as decimals: a sum of floats depends on who adds first.
INTERACTIONS = """
WITH merged AS (
    SELECT
        user_id, order_key, order_ts, item_id, kind,
        count(*) AS num_rows,
        sum(quantity) AS quantity,
        sum(CASE WHEN price IS NOT NULL THEN quantity END) AS priced,
        max(price) AS price,
        min(line) AS line,
        min(note) AS note,
        cast(sum(cast(price * quantity as decimal(28, 6))) as double) AS paid
    FROM ({lines})
    GROUP BY user_id, order_key, order_ts, item_id, kind
)
SELECT
    user_id,
    item_id,
    order_ts AS ts,
    order_key AS order_id,
    kind,
    cast(CASE WHEN quantity > 2147483647 THEN 2147483647 ELSE quantity END as int) AS quantity,
    CASE WHEN num_rows = 1 THEN price ELSE paid / nullif(priced, 0) END AS price,
    line,
    note
FROM merged
ORDER BY user_id, ts, order_id, item_id, kind
"""

EXPOSURES = """
SELECT user_id, item_id, ts, placement, cast(click as tinyint) AS click,
    cast(conversion as tinyint) AS conversion
FROM ({kept})
WHERE {drawn}
ORDER BY user_id, ts, item_id, placement
"""

OUTCOMES = """
SELECT user_id, item_id, ts, placement, advertiser, goal, reported,
    CASE WHEN conversion = 1 THEN value END AS value
FROM ({kept})
WHERE {drawn}
ORDER BY user_id, ts, item_id, placement
"""

PLACES = """
SELECT item_id, latitude, longitude
FROM {items}
WHERE latitude IS NOT NULL
ORDER BY item_id
"""

EVENTS = """
SELECT user_id, ts, modality, value, weight
FROM ({kept})
ORDER BY user_id, ts, modality, value
"""

USERS = """
WITH acting AS (
    {acting}
),
seen AS (SELECT DISTINCT user_id FROM acting)
SELECT seen.user_id, {held_out} AS holdout, {fields} AS fields
FROM seen
{profiles}
ORDER BY user_id
"""


def users_sql(numbers: Mapping[str, Sequence[int]], labels: Sequence[str], held_out: str) -> str:
    """Return all users with their profiles: whoever has one, and whoever acts.

    Args:
        numbers: Raw tables, by the table that they feed.
        labels: Names of the profile fields, in order.
        held_out: Condition on `seen.user_id`.
    """
    acting = [
        f"SELECT user_id FROM judged_{number} WHERE fault IS NULL"
        for table, several in numbers.items()
        if table != "items"
        for number in several
    ]
    pairs = ", ".join(f"{literal(label)}, field_{n}" for n, label in enumerate(labels))
    fields = f"map({pairs})" if labels else "map()"
    profiles = ""
    if numbers.get("users"):
        known = f"SELECT * FROM judged_{numbers['users'][0]} WHERE fault IS NULL"
        profiles = f"LEFT JOIN ({known}) AS profiles ON profiles.user_id = seen.user_id"
    return USERS.format(
        acting="\n    UNION ALL\n    ".join(acting),
        held_out=held_out,
        fields=f"cast({fields} as map<string, string>)",
        profiles=profiles,
    )


def users_of(numbers: Sequence[int]) -> str:
    """Return a SELECT of the users whom good rows of some raw tables name."""
    selects = (f"SELECT user_id FROM judged_{n} WHERE fault IS NULL" for n in numbers)
    return f"SELECT DISTINCT user_id FROM ({' UNION ALL '.join(selects)})"


MET = """
WITH given AS ({given}), known AS ({known})
SELECT
    (SELECT count(*) FROM given) AS num_given,
    (SELECT count(*) FROM known) AS num_known,
    (SELECT count(*) FROM given LEFT SEMI JOIN known ON known.user_id = given.user_id) AS num_met
"""

STRANGERS = """
WITH given AS ({given}), known AS ({known})
SELECT given.user_id
FROM given LEFT ANTI JOIN known ON known.user_id = given.user_id
ORDER BY user_id
LIMIT {most}
"""


def refused_sql(number: int, table: str, label: str) -> str:
    """Return the first refused rows of each reason, in the columns of quarantine.parquet."""
    return f"""
SELECT {number} AS number, {literal(table)} AS `table`, {literal(label)} AS files, file,
    row_no AS `row`, row_key AS key, fault AS reason, found AS value, place
FROM (
    SELECT *, row_number() OVER (
        PARTITION BY fault ORDER BY file, row_no, row_key, found
    ) AS place
    FROM judged_{number}
    WHERE fault IS NOT NULL
)
WHERE place <= {MOST_KEPT}"""
