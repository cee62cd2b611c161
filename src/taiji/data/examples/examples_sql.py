"""The queries of `taiji.data.examples.examples`: who is asked, about which moment, towards what.

`windows` holds the stretches of time whose orders become targets, `rank_moments` those at which
features are asked for. An order is a set: its lines have one time, and none of them is history
of another.
"""

from taiji.data.engine.keys import joined_key

# Every order of a target window with its targets, judged. `{line_hash}` ranks the lines of an
# order, `{order_hash}` the orders; neither looks at anything but ids. Of each user and period the
# first usable order by hash stays, so that histories do not repeat one another.
ORDERS = """
SELECT
    orders.user_id,
    orders.order_id,
    orders.cutoff,
    windows.split,
    CAST(floor(datediff(
        CAST(convert_timezone('UTC', '{timezone}', CAST(orders.cutoff AS TIMESTAMP_NTZ)) AS DATE),
        windows.first_day
    ) / {period_days}) AS INT) AS period
FROM (
    SELECT user_id, order_id, min(ts) AS cutoff
    FROM interactions
    WHERE kind IN ({kinds})
    GROUP BY user_id, order_id
) AS orders
JOIN windows ON orders.cutoff >= windows.starts AND orders.cutoff < windows.ends
"""

# How many interactions came before each moment.
LENGTHS = """
WITH moments AS (
    SELECT user_id, ts, count(*) AS num_lines
    FROM interactions
    GROUP BY user_id, ts
)
SELECT
    user_id,
    ts,
    sum(num_lines) OVER (PARTITION BY user_id ORDER BY ts) - num_lines AS history_length
FROM moments
"""

TARGETS = """
WITH wanted AS (SELECT * FROM interactions WHERE kind IN ({kinds})),
first_bought AS (
    SELECT user_id, item_id, min(ts) AS first_ts
    FROM wanted
    GROUP BY user_id, item_id
),
lines AS (
    SELECT DISTINCT
        orders.user_id,
        orders.order_id,
        i.item_id,
        first_bought.first_ts >= orders.cutoff AS is_novel
    FROM orders
    JOIN wanted AS i ON i.user_id = orders.user_id AND i.order_id = orders.order_id
    JOIN first_bought
        ON first_bought.user_id = i.user_id AND first_bought.item_id = i.item_id
),
drawn AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY user_id, order_id ORDER BY {line_hash}, item_id
        ) AS place,
        row_number() OVER (
            PARTITION BY user_id, order_id, is_novel ORDER BY {line_hash}, item_id
        ) AS place_of_kind
    FROM lines
)
SELECT
    user_id,
    order_id,
    array_sort(collect_set(item_id)) AS basket_item_ids,
    array_sort(collect_set(CASE WHEN is_novel THEN item_id END)) AS novel_item_ids,
    min(CASE WHEN place = 1 THEN item_id END) AS any_item_id,
    min(CASE WHEN is_novel AND place_of_kind = 1 THEN item_id END) AS novel_item_id
FROM drawn
GROUP BY user_id, order_id
"""

CANDIDATES = """
WITH judged AS (
    SELECT
        orders.*,
        targets.basket_item_ids,
        targets.novel_item_ids,
        targets.any_item_id,
        targets.novel_item_id,
        {order_hash} AS draw,
        CASE
            WHEN users.holdout AND orders.split <> 'test' THEN 'held-out user'
            WHEN lengths.history_length < {min_history} THEN 'short history'
            WHEN {needs_novel} AND orders.split <> 'test' AND targets.novel_item_id IS NULL
                THEN 'no novel target'
        END AS fault
    FROM orders
    JOIN targets ON targets.user_id = orders.user_id AND targets.order_id = orders.order_id
    JOIN lengths ON lengths.user_id = orders.user_id AND lengths.ts = orders.cutoff
    JOIN users ON users.user_id = orders.user_id
),
first_of_period AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY split, user_id, period, fault IS NULL ORDER BY draw, order_id
        ) AS place
    FROM judged
)
SELECT
    user_id, order_id, cutoff, split, basket_item_ids, novel_item_ids, any_item_id, novel_item_id,
    draw,
    coalesce(fault, CASE WHEN place > 1 THEN 'same period' ELSE 'usable' END) AS verdict
FROM first_of_period
"""

# One example of every user first, then a second of each, until the split is full.
DRAWN = """
WITH turns AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY split, user_id ORDER BY draw, order_id) AS turn
    FROM candidates
    WHERE verdict = 'usable'
),
ranked AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY split ORDER BY turn, draw, user_id, order_id) AS place
    FROM turns
)
SELECT *, {needs_novel} AND split <> 'test' AS towards_novel
FROM ranked
WHERE place <= CASE split {split_sizes} END
"""

RANK_USERS = """
WITH earliest AS (
    SELECT user_id, min(ts) AS first_ts
    FROM interactions
    GROUP BY user_id
),
ranked AS (
    SELECT
        users.user_id,
        row_number() OVER (ORDER BY {user_hash}, users.user_id) AS place
    FROM users
    JOIN earliest ON earliest.user_id = users.user_id
    WHERE earliest.first_ts < {rank_starts}
)
SELECT user_id, place
FROM ranked
WHERE place <= {num_rank_users}
"""

# At which moments text of the ranking users is asked for. The mark tells those of one user and
# split apart; there is none where there is one moment.
RANK_ASKS = """
SELECT u.user_id, u.place, m.split, m.cutoff, m.mark
FROM rank_users AS u
CROSS JOIN rank_moments AS m
"""

RANK_ASKS_BY_VISIT = """
SELECT
    u.user_id, u.place, m.split, shown.cutoff, CAST(unix_micros(shown.cutoff) AS STRING) AS mark
FROM (SELECT DISTINCT user_id, ts AS cutoff FROM exposures) AS shown
JOIN rank_users AS u ON u.user_id = shown.user_id
JOIN rank_moments AS m ON shown.cutoff >= m.cutoff AND shown.cutoff < m.ends
"""

_ORDER_KEY = joined_key("split", "user_id", "order_id")
_USER_KEY = (
    f"CASE WHEN r.mark IS NULL THEN {joined_key('r.split', 'r.user_id')} "
    f"ELSE {joined_key('r.split', 'r.mark', 'r.user_id')} END"
)

ASKS = f"""
WITH both AS (
    SELECT
        {_ORDER_KEY} AS example_id,
        user_id,
        split,
        cutoff,
        CASE WHEN towards_novel THEN novel_item_id ELSE any_item_id END AS target_item_id,
        novel_item_id AS novel_target_item_id,
        {{target_item_ids}} AS target_item_ids,
        basket_item_ids,
        place
    FROM drawn
    UNION ALL
    SELECT
        {_USER_KEY} AS example_id,
        r.user_id,
        r.split,
        r.cutoff,
        CAST(NULL AS STRING) AS target_item_id,
        CAST(NULL AS STRING) AS novel_target_item_id,
        CAST(NULL AS ARRAY<STRING>) AS target_item_ids,
        CAST(NULL AS ARRAY<STRING>) AS basket_item_ids,
        r.place
    FROM rank_asks AS r
)
SELECT
    example_id, user_id, split, cutoff, target_item_id, novel_target_item_id, target_item_ids,
    basket_item_ids,
    {{since}} AS since,
    row_number() OVER (ORDER BY CASE split {{split_order}} END, place, cutoff) AS place
FROM both
"""

TARGET_ITEM_IDS = {
    "one": "array(CASE WHEN towards_novel THEN novel_item_id ELSE any_item_id END)",
    "basket": "CASE WHEN towards_novel THEN novel_item_ids ELSE basket_item_ids END",
}

FUNNEL = """
SELECT split, verdict, count(*) AS num_orders
FROM candidates
GROUP BY split, verdict
ORDER BY split, verdict
"""
