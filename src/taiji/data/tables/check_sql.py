"""The queries of `taiji.data.tables.check`, over the canonical tables as `checked_<table>`."""

_WORDS = "('nan', 'null', 'none', 'unknown', 'n/a', '\\\\n')"


def _sentinels(*columns: str) -> str:
    return " + ".join(
        f"count_if(coalesce(lower({column}) IN {_WORDS}, false))" for column in columns
    )


FIGURES = {
    "users": """
        SELECT
            count(*) - count(acting.user_id) AS without_history,
            count_if(holdout) AS held_out
        FROM checked_users AS users
        LEFT JOIN (SELECT DISTINCT user_id FROM checked_interactions) AS acting
            ON acting.user_id = users.user_id
    """,
    "items": f"""
        WITH used AS (SELECT DISTINCT item_id FROM checked_interactions),
        described AS (
            SELECT items.*, used.item_id AS used_id, count(*) OVER (
                PARTITION BY title, category_l1, category_l2, category_l3
            ) AS alike
            FROM checked_items AS items
            LEFT JOIN used ON used.item_id = items.item_id
        )
        SELECT
            count(used_id) AS with_interactions,
            count_if(category_l1 IS NULL) AS without_category,
            count_if(category_l1 IS NOT NULL AND category_l2 IS NULL) AS one_level,
            count_if(category_l2 IS NOT NULL AND category_l3 IS NULL) AS two_levels,
            count(category_l3) AS three_levels,
            count(DISTINCT category_l1) AS top_categories,
            count(brand) AS with_brand,
            max(length(title)) AS longest_title,
            count_if(alike > 1) AS items_that_share_a_title,
            {_sentinels("title", "brand", "category_l1", "category_l2", "category_l3")}
                AS sentinel_words
        FROM described
    """,
    "interactions": """
        WITH pairs AS (
            SELECT user_id, item_id FROM checked_interactions GROUP BY user_id, item_id
        ),
        by_level AS (
            SELECT category_l1, count(*) AS num_rows
            FROM checked_interactions AS log
            JOIN checked_items AS items ON items.item_id = log.item_id
            GROUP BY category_l1
        )
        SELECT
            min(ts) AS first,
            max(ts) AS last,
            count(DISTINCT user_id) AS users,
            count(DISTINCT item_id) AS items,
            count(price) AS with_price,
            (SELECT count(*) FROM pairs) AS pairs,
            coalesce((SELECT max(num_rows) FROM by_level WHERE category_l1 IS NOT NULL), 0)
                AS largest_level_1
        FROM checked_interactions
    """,
    "exposures": """
        SELECT
            min(ts) AS first,
            max(ts) AS last,
            count(DISTINCT user_id) AS users,
            count(DISTINCT item_id) AS items,
            cast(sum(click) AS bigint) AS clicks,
            cast(sum(conversion) AS bigint) AS conversions,
            count(*) - count(conversion) AS conversion_unknown
        FROM checked_exposures
    """,
    "events": """
        SELECT
            min(ts) AS first,
            max(ts) AS last,
            count(DISTINCT user_id) AS users,
            count(DISTINCT modality) AS modalities,
            count(weight) AS with_weight
        FROM checked_events
    """,
}

KINDS = """
SELECT kind, count(*) AS num_rows FROM checked_interactions GROUP BY kind ORDER BY kind
"""

# The user with the most interactions: who stands for many is no user.
BUSIEST = """
SELECT user_id, count(*) AS num_rows
FROM checked_interactions
GROUP BY user_id
ORDER BY num_rows DESC, user_id
LIMIT 2
"""

LENGTHS = """
WITH lengths AS (SELECT count(*) AS length FROM checked_interactions GROUP BY user_id)
SELECT length, count(*) AS num_users FROM lengths GROUP BY length ORDER BY length
"""

# A conversion that stands in the history before its exposure tells a model what to predict.
LEAKS = """
WITH converted AS (
    SELECT DISTINCT user_id, item_id, ts FROM checked_exposures WHERE conversion = 1
),
foreseen AS (
    SELECT DISTINCT converted.user_id, converted.item_id, converted.ts
    FROM converted
    JOIN checked_interactions AS log
        ON log.user_id = converted.user_id
        AND log.item_id = converted.item_id
        AND log.ts < converted.ts
        AND log.ts >= timestampadd(DAY, -1, converted.ts)
),
known AS (SELECT DISTINCT user_id FROM checked_interactions),
strangers AS (
    SELECT DISTINCT exposures.user_id
    FROM checked_exposures AS exposures
    LEFT ANTI JOIN known ON known.user_id = exposures.user_id
)
SELECT
    (SELECT count(*) FROM foreseen) AS conversions_already_in_the_log,
    (SELECT count(*) FROM strangers) AS users_without_history
"""

BY_WINDOW = """
WITH logged AS (
    SELECT {window} AS `window`, 1 AS interaction, 0 AS exposure, 0 AS click
    FROM checked_interactions
    UNION ALL
    SELECT {window} AS `window`, 0 AS interaction, 1 AS exposure, cast(click as int) AS click
    FROM checked_exposures
)
SELECT
    `window`,
    cast(sum(interaction) AS bigint) AS interactions,
    cast(sum(exposure) AS bigint) AS exposures,
    cast(sum(click) AS bigint) AS clicks
FROM logged
WHERE `window` IS NOT NULL
GROUP BY `window`
"""
