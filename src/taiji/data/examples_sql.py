"""The queries of `taiji.data.examples`: who is asked, about which moment, knowing what.

`interactions`, `items` and `users` are registered with plain UTC times. An order is a set:
its lines have one time, and none of them is history of another.
"""

from taiji.data.splits import RANK_SPLITS, TARGET_SPLITS, TIMEZONE, windows_sql

_SPLIT_OF_WINDOW = " ".join(
    f"WHEN '{window}' THEN '{split}'" for window, split in TARGET_SPLITS.items()
)

# Every order of a target window with its targets, judged. `{line_hash}` ranks the lines of an
# order, `{order_hash}` the orders; neither looks at anything but ids. Of each user and week the
# first usable order by hash stays, so that histories do not repeat one another.
CANDIDATES = f"""
CREATE TEMP TABLE candidates AS
WITH first_bought AS (
    SELECT user_id, item_id, min(ts) AS first_ts
    FROM interactions
    GROUP BY ALL
),
moments AS (
    SELECT user_id, ts, count(*) AS num_lines
    FROM interactions
    GROUP BY ALL
),
lengths AS (
    SELECT
        user_id,
        ts AS cutoff,
        sum(num_lines) OVER (PARTITION BY user_id ORDER BY ts) - num_lines AS history_length
    FROM moments
),
orders AS (
    SELECT user_id, order_id, min(ts) AS cutoff
    FROM interactions
    GROUP BY ALL
),
dated AS (
    SELECT orders.*, week, CASE window_name {_SPLIT_OF_WINDOW} END AS split
    FROM orders
    JOIN {windows_sql()} ON cutoff >= starts AND cutoff < ends
    WHERE split IS NOT NULL
),
targeted AS (
    SELECT
        user_id,
        order_id,
        list_sort(list(DISTINCT item_id)) AS basket_item_ids,
        arg_min(item_id, {{line_hash}}) AS any_item_id,
        arg_min(item_id, {{line_hash}}) FILTER (WHERE first_ts >= cutoff) AS novel_item_id
    FROM dated
    JOIN interactions USING (user_id, order_id)
    JOIN first_bought USING (user_id, item_id)
    GROUP BY ALL
),
judged AS (
    SELECT
        *,
        {{order_hash}} AS draw,
        CASE
            WHEN holdout AND split <> 'test' THEN 'held-out user'
            WHEN history_length < {{min_history}} THEN 'short history'
            WHEN {{needs_novel}} AND split <> 'test' AND novel_item_id IS NULL
                THEN 'no novel target'
        END AS fault
    FROM dated
    JOIN targeted USING (user_id, order_id)
    JOIN lengths USING (user_id, cutoff)
    JOIN (SELECT user_id, holdout FROM users) USING (user_id)
),
first_of_week AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY split, user_id, week, fault IS NULL ORDER BY draw
        ) AS place
    FROM judged
)
SELECT * EXCLUDE (place),
    coalesce(fault, CASE WHEN place > 1 THEN 'same week' ELSE 'usable' END) AS verdict
FROM first_of_week
"""

# One example of every user first, then a second of each, until the split is full.
ASKS = f"""
CREATE TEMP TABLE asks AS
WITH turns AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY split, user_id ORDER BY draw) AS turn
    FROM candidates
    WHERE verdict = 'usable'
),
ranked AS (
    SELECT *, row_number() OVER (PARTITION BY split ORDER BY turn, draw) AS place
    FROM turns
),
drawn AS (
    SELECT *
    FROM ranked
    WHERE place <= CASE split {{split_sizes}} END
),
earliest AS (
    SELECT user_id, min(ts) AS first_ts
    FROM interactions
    GROUP BY ALL
),
rank_users AS (
    SELECT users.*, {{user_hash}} AS draw
    FROM users
    JOIN earliest USING (user_id)
    WHERE first_ts < (SELECT min(starts) FROM {windows_sql()}
        WHERE window_name = '{RANK_SPLITS["rank_train"]}')
    ORDER BY draw
    LIMIT {{num_rank_users}}
),
rank_moments(split, cutoff) AS (
    SELECT CASE window_name
        {" ".join(f"WHEN '{window}' THEN '{split}'" for split, window in RANK_SPLITS.items())}
        END, min(starts)
    FROM {windows_sql()}
    WHERE window_name IN {tuple(RANK_SPLITS.values())}
    GROUP BY window_name
)
SELECT
    concat_ws('-', split, user_id, order_id) AS example_id,
    split,
    cutoff,
    order_id,
    CASE WHEN {{needs_novel}} AND split <> 'test' THEN novel_item_id
        ELSE any_item_id END AS target_item_id,
    novel_item_id AS novel_target_item_id,
    basket_item_ids,
    turn,
    draw,
    users.*
FROM drawn
JOIN users USING (user_id)
UNION ALL BY NAME
SELECT concat_ws('-', split, user_id) AS example_id, split, cutoff, 1 AS turn, rank_users.*
FROM rank_users
CROSS JOIN rank_moments
"""

# What may be known at a cut-off. Everything about the past of an example reads this view.
PAST = """
CREATE TEMP VIEW past AS
SELECT asks.example_id, asks.cutoff, i.*
FROM asks
JOIN interactions AS i
    ON i.user_id = asks.user_id
    AND i.ts < asks.cutoff
    AND i.order_id IS DISTINCT FROM asks.order_id
"""

HISTORIES = """
SELECT
    example_id,
    item_id,
    ts,
    price,
    row_number() OVER (
        PARTITION BY example_id ORDER BY ts DESC, order_id DESC, item_id DESC
    ) AS place
FROM past
QUALIFY place <= {history_items}
ORDER BY example_id, place
"""

# Figures of all of the past, not only of the lines that a prompt shows. Ties by name.
HABITS = f"""
WITH bought AS (
    SELECT
        past.*,
        category_l1,
        category_l2,
        brand,
        timezone('{TIMEZONE}', timezone('UTC', ts)) AS local_ts
    FROM past
    LEFT JOIN items USING (item_id)
),
counted AS (
    SELECT example_id, category_l1, category_l2, count(*) AS num_lines
    FROM bought
    WHERE category_l2 IS NOT NULL
    GROUP BY ALL
),
favourites AS (
    SELECT
        example_id,
        list(category_l2 ORDER BY num_lines DESC, category_l1, category_l2)[1:3]
            AS top_categories
    FROM counted
    GROUP BY example_id
),
trips AS (
    SELECT DISTINCT
        example_id,
        order_id,
        CASE WHEN isodow(local_ts) >= 6 THEN 'weekend' ELSE 'weekday' END
        || CASE
            WHEN hour(local_ts) BETWEEN 5 AND 11 THEN ' mornings'
            WHEN hour(local_ts) BETWEEN 12 AND 16 THEN ' afternoons'
            WHEN hour(local_ts) BETWEEN 17 AND 21 THEN ' evenings'
            ELSE ' nights'
        END AS moment
    FROM bought
),
times AS (
    SELECT example_id, moment, count(*) AS num_orders
    FROM trips
    GROUP BY ALL
),
usual_times AS (
    SELECT example_id, list(moment ORDER BY num_orders DESC, moment)[1] AS shopping_time
    FROM times
    GROUP BY example_id
),
figures AS (
    SELECT
        example_id,
        count(*) AS history_length,
        quantile_disc(price, 0.25) AS low_price,
        quantile_disc(price, 0.75) AS high_price,
        count_if(brand = 'Private label') / nullif(count(brand), 0) AS private_label_share
    FROM bought
    GROUP BY example_id
)
SELECT *
FROM asks
LEFT JOIN figures USING (example_id)
LEFT JOIN favourites USING (example_id)
LEFT JOIN usual_times USING (example_id)
ORDER BY split, turn, draw
"""

FUNNEL = """
SELECT split, verdict, count(*) FROM candidates GROUP BY ALL ORDER BY ALL
"""
