"""The queries of `taiji.data.examples.past`: what was known of a user strictly before a moment.

`asks` says who is asked about, when, and how far back is looked; `log` holds interactions,
`events` other behaviour, `items` the catalogue. Everything about the past lies in
`since <= ts < cutoff`: an order has one time, so the lines of the basket that is to be foreseen
fall out too. Ties are broken by name.
"""

# Sources that tell only the kind of a brand use these two; any other brand is a name.
PRIVATE_LABEL = "Private label"
NATIONAL_BRAND = "National brand"

LEAST_ORDERS, MARGIN = 5, 0.2
"""A usual time is told of so many orders or more, where it leads the next one by such a share."""

# Times of day in the order of their names, so that the smallest number wins a tie.
SHOPPING_TIMES = tuple(
    f"{day} {part}"
    for day in ("weekday", "weekend")
    for part in ("afternoons", "evenings", "mornings", "nights")
)

PAST = "log.user_id = asks.user_id AND log.ts < asks.cutoff AND log.ts >= asks.since"

VISITS = """
SELECT log.user_id, log.order_id, log.ts, count(*) AS num_lines
FROM log
LEFT SEMI JOIN asks ON asks.user_id = log.user_id
GROUP BY log.user_id, log.order_id, log.ts
"""

# How much of the past there is, and the moment from which its newest lines begin: so that only
# those are sorted, not the whole log.
BOUNDS = f"""
WITH moments AS (
    SELECT user_id, ts, sum(num_lines) AS num_lines
    FROM visits
    GROUP BY user_id, ts
),
counted AS (
    SELECT
        asks.place,
        log.ts,
        log.num_lines,
        sum(log.num_lines) OVER (PARTITION BY asks.place ORDER BY log.ts DESC) AS num_since
    FROM asks
    JOIN moments AS log ON {PAST}
)
SELECT
    place,
    max(num_since) AS history_length,
    min(CASE WHEN num_since - num_lines < {{history_items}} THEN ts END) AS oldest
FROM counted
GROUP BY place
"""

# A total order: rows that agree in all of it are the same row twice. Lines of a basket stand like
# all else with the last one first, by their place in it where that is known.
HISTORIES = """
WITH lines AS (
    SELECT
        asks.place AS ask, log.item_id, log.ts, log.kind, log.quantity, log.price, log.note,
        row_number() OVER (
            PARTITION BY asks.place
            ORDER BY log.ts DESC, log.order_id DESC, coalesce(log.line, 0) DESC,
                log.item_id DESC, log.kind DESC
        ) AS place
    FROM asks
    JOIN bounds ON bounds.place = asks.place
    JOIN log
        ON log.user_id = asks.user_id AND log.ts < asks.cutoff AND log.ts >= bounds.oldest
)
SELECT
    ask AS place,
    transform(
        array_sort(collect_list(named_struct(
            'place', place,
            'item_id', item_id,
            'ts', ts,
            'kind', kind,
            'quantity', quantity,
            'price', price,
            'note', note
        ))),
        line -> named_struct(
            'item_id', line.item_id,
            'ts', line.ts,
            'kind', line.kind,
            'quantity', line.quantity,
            'price', line.price,
            'note', line.note
        )
    ) AS history
FROM lines
WHERE place <= {history_items}
GROUP BY ask
"""

# Figures of all of the past, not only of the lines that a prompt shows.
PRICES = f"""
SELECT
    asks.place,
    percentile_disc(0.25) WITHIN GROUP (ORDER BY price) AS low_price,
    percentile_disc(0.75) WITHIN GROUP (ORDER BY price) AS high_price
FROM asks
JOIN log ON {PAST}
WHERE price IS NOT NULL
GROUP BY asks.place
"""

# Numbers stand for names while rows are many. Names are in the order of their numbers, so that a
# tie goes to the first name: second-level categories (one name may stand under two parents, and
# the parent may be unknown) and brands.
SHELVES = """
SELECT
    item_id,
    CASE WHEN category_l2 IS NOT NULL
        THEN dense_rank() OVER (ORDER BY category_l1, category_l2) END AS category,
    CASE WHEN brand IS NOT NULL THEN dense_rank() OVER (ORDER BY brand) END AS brand
FROM items
"""

NAMES = """
SELECT DISTINCT 'category' AS field, shelves.category AS number, items.category_l2 AS name
FROM shelves
JOIN items ON items.item_id = shelves.item_id
WHERE shelves.category IS NOT NULL
UNION ALL
SELECT DISTINCT 'brand' AS field, shelves.brand AS number, items.brand AS name
FROM shelves
JOIN items ON items.item_id = shelves.item_id
WHERE shelves.brand IS NOT NULL
"""

BOUGHT = f"""
SELECT asks.place, shelves.category, shelves.brand, count(*) AS num_lines
FROM asks
JOIN log ON {PAST} AND log.kind IN ({{kinds}})
JOIN shelves ON shelves.item_id = log.item_id
GROUP BY asks.place, shelves.category, shelves.brand
"""

LABELS = f"""
SELECT
    bought.place,
    sum(CASE WHEN names.name = '{PRIVATE_LABEL}' THEN num_lines ELSE 0 END)
        / sum(num_lines) AS private_label_share
FROM bought
JOIN names ON names.field = 'brand' AND names.number = bought.brand
WHERE names.name IN ('{PRIVATE_LABEL}', '{NATIONAL_BRAND}')
GROUP BY bought.place
"""

# What the user bought most often, by name.
_FAVOURITES = """
WITH counted AS (
    SELECT place AS ask, {field} AS number, sum(num_lines) AS num_lines
    FROM bought
    GROUP BY place, {field}
),
named AS (
    SELECT
        counted.ask,
        names.name,
        row_number() OVER (
            PARTITION BY counted.ask ORDER BY counted.num_lines DESC, counted.number
        ) AS place
    FROM counted
    JOIN names ON names.field = '{field}' AND names.number = counted.number
    WHERE names.name NOT IN ({unwanted})
)
SELECT
    ask AS place,
    transform(
        array_sort(collect_list(named_struct('place', place, 'name', name))), one -> one.name
    ) AS favourites
FROM named
WHERE place <= 3
GROUP BY ask
"""
TOP_CATEGORIES = _FAVOURITES.format(field="category", unwanted="''")
BRANDS = _FAVOURITES.format(field="brand", unwanted=f"'{PRIVATE_LABEL}', '{NATIONAL_BRAND}'")

# 2000-01-03 was a Monday.
USUAL_TIMES = f"""
WITH clocks AS (
    SELECT
        asks.place AS ask,
        log.order_id,
        convert_timezone('UTC', '{{timezone}}', CAST(log.ts AS TIMESTAMP_NTZ)) AS local_ts
    FROM asks
    JOIN visits AS log ON {PAST}
),
trips AS (
    SELECT DISTINCT
        ask,
        order_id,
        CASE WHEN datediff(CAST(local_ts AS DATE), DATE '2000-01-03') % 7 >= 5
            THEN 4 ELSE 0 END
        + CASE
            WHEN hour(local_ts) BETWEEN 5 AND 11 THEN 2
            WHEN hour(local_ts) BETWEEN 12 AND 16 THEN 0
            WHEN hour(local_ts) BETWEEN 17 AND 21 THEN 1
            ELSE 3
        END AS moment
    FROM clocks
),
counted AS (
    SELECT ask, moment, count(*) AS num_orders
    FROM trips
    GROUP BY ask, moment
),
ranked AS (
    SELECT
        ask,
        moment,
        num_orders,
        sum(num_orders) OVER (PARTITION BY ask) AS all_orders,
        lead(num_orders) OVER (PARTITION BY ask ORDER BY num_orders DESC, moment) AS next_orders,
        row_number() OVER (PARTITION BY ask ORDER BY num_orders DESC, moment) AS place
    FROM counted
)
SELECT
    ask AS place,
    CASE moment
        {" ".join(f"WHEN {n} THEN '{name}'" for n, name in enumerate(SHOPPING_TIMES))}
    END AS shopping_time
FROM ranked
WHERE place = 1
    AND all_orders >= {LEAST_ORDERS}
    AND num_orders - coalesce(next_orders, 0) >= {MARGIN} * all_orders
"""

# At most `{events_items}` newest events of each modality.
RECENT_EVENTS = """
WITH ranked AS (
    SELECT
        asks.place AS ask,
        events.modality,
        events.ts,
        events.value,
        events.weight,
        row_number() OVER (
            PARTITION BY asks.place, events.modality
            ORDER BY events.ts DESC, events.value, events.weight
        ) AS place
    FROM asks
    JOIN events
        ON events.user_id = asks.user_id
        AND events.ts < asks.cutoff
        AND events.ts >= asks.since
)
SELECT
    ask AS place,
    transform(
        array_sort(collect_list(named_struct(
            'modality', modality, 'place', place, 'ts', ts, 'value', value, 'weight', weight
        ))),
        one -> named_struct(
            'modality', one.modality, 'ts', one.ts, 'value', one.value, 'weight', one.weight
        )
    ) AS events
FROM ranked
WHERE place <= {events_items}
GROUP BY ask
"""

FIGURES = """
SELECT
    asks.example_id,
    asks.user_id,
    asks.split,
    asks.cutoff,
    users.holdout,
    users.fields,
    histories.history,
    recent_events.events,
    coalesce(bounds.history_length, 0) AS history_length,
    top_categories.favourites AS top_categories,
    prices.low_price,
    prices.high_price,
    brands.favourites AS brands,
    labels.private_label_share,
    usual_times.shopping_time,
    asks.target_item_id,
    asks.novel_target_item_id,
    asks.target_item_ids,
    asks.basket_item_ids
FROM asks
JOIN users ON users.user_id = asks.user_id
LEFT JOIN bounds ON bounds.place = asks.place
LEFT JOIN prices ON prices.place = asks.place
LEFT JOIN labels ON labels.place = asks.place
LEFT JOIN histories ON histories.place = asks.place
LEFT JOIN recent_events ON recent_events.place = asks.place
LEFT JOIN top_categories ON top_categories.place = asks.place
LEFT JOIN brands ON brands.place = asks.place
LEFT JOIN usual_times ON usual_times.place = asks.place
ORDER BY asks.place
"""
