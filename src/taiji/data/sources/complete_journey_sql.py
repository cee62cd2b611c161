"""The queries of `taiji.data.sources.complete_journey`, in the order in which they run.

Spark's dialect, as everywhere. Each query names its steps and reads from top to bottom. Sums of
money run over decimals: a sum of floats depends on the thread that adds.
"""

# Fuel, gift cards, services and book-keeping; some carry quantities of tens of thousands.
_NON_MERCHANDISE = (
    "AUTOMOTIVE",
    "CHARITABLE CONT",
    "CNTRL/STORE SUP",
    "COUPON",
    "FUEL",
    "GM MERCH EXP",
    "MISCELLANEOUS",
    "PHOTO & VIDEO",
    "POSTAL CENTER",
    "PROD-WHS SALES",
    "TRAVEL & LEISURE",
)
# Front page, back page, wrap front, wrap back: from the most prominent to the least, which is
# the alphabet's order, so min() picks the best place of a title.
_COVER_PAGES = ("D", "F", "H", "L")

COLUMNS = {
    "transactions": (
        *("household_id", "store_id", "basket_id", "product_id", "quantity", "sales_value"),
        *("week", "transaction_timestamp"),
    ),
    "products": (
        *("product_id", "department", "brand", "product_category", "product_type"),
        "package_size",
    ),
    "promotions": ("product_id", "store_id", "mailer_location", "week"),
    "demographics": (
        *("household_id", "age", "income", "home_ownership", "marital_status", "household_size"),
        *("household_comp", "kids_count"),
    ),
}
"""The columns that are read, by file."""


def _known(column: str) -> str:
    """Null for a null, a blank and, in some builds of the files, the word NaN."""
    return f"nullif(nullif(trim(cast({column} as string)), ''), 'NaN')"


# One row a product: why it is no item, or the group of products that share a title.
PRODUCTS = f"""
WITH named AS (
    SELECT
        product_id,
        {_known("department")} AS department,
        {_known("product_category")} AS category,
        {_known("product_type")} AS kind,
        {_known("brand")} AS brand,
        {_known("package_size")} AS size
    FROM raw_products
)
SELECT
    *,
    dense_rank() OVER (ORDER BY department, category, kind, brand, size) AS group_id,
    CASE
        WHEN department IN {_NON_MERCHANDISE} THEN 'not merchandise'
        WHEN category LIKE 'COUPON%' THEN 'coupon'
        WHEN department IS NULL OR category IS NULL OR kind IS NULL THEN 'no category'
        ELSE 'kept'
    END AS reason
FROM named
"""

GROUPS = """
SELECT DISTINCT group_id, department, category, kind, brand, size
FROM judged_products
WHERE reason = 'kept'
ORDER BY group_id
"""

# `titled_groups` is registered from Python: one row a group, with its item.
PRODUCT_ITEMS = """
WITH paths AS (
    SELECT
        group_id,
        item_id,
        dense_rank() OVER (ORDER BY category_l1, category_l2, category_l3) AS path_id
    FROM titled_groups
)
SELECT products.product_id, products.reason, paths.item_id, paths.path_id
FROM judged_products AS products
LEFT JOIN paths ON paths.group_id = products.group_id
"""

LINES = """
WITH named AS (
    SELECT
        household_id,
        store_id,
        basket_id,
        week,
        cast(transaction_timestamp as timestamp_ntz) AS ts,
        lines.product_id,
        item_id,
        path_id,
        quantity,
        sales_value,
        reason
    FROM raw_transactions AS lines
    LEFT JOIN product_items ON product_items.product_id = lines.product_id
)
SELECT
    household_id, store_id, basket_id, week, ts, product_id, item_id, path_id, quantity,
    sales_value,
    CASE
        WHEN household_id IS NULL OR store_id IS NULL OR basket_id IS NULL THEN 'no key'
        WHEN week IS NULL OR ts IS NULL THEN 'no time'
        WHEN reason IS NULL THEN 'unknown product'
        WHEN reason <> 'kept' THEN reason
        WHEN quantity IS NULL OR quantity <= 0 THEN 'quantity not positive'
        WHEN sales_value IS NULL OR isnan(sales_value) OR sales_value <= 0 OR sales_value > 1e15
            THEN 'sales not positive'
        ELSE 'kept'
    END AS verdict
FROM named
"""
_LINES = "(SELECT * FROM judged_lines WHERE verdict = 'kept')"

ITEMS = """
SELECT DISTINCT item_id, title, category_l1, category_l2, category_l3, brand
FROM titled_groups
ORDER BY item_id
"""

# `{held_out}` is a condition on user_id.
USERS = f"""
WITH buyers AS (
    SELECT DISTINCT household_id, cast(household_id as string) AS user_id
    FROM {_LINES} AS bought
)
SELECT
    user_id,
    {{held_out}} AS holdout,
    map(
        'age', {_known("age")},
        'income', {_known("income")},
        'home_ownership', {_known("home_ownership")},
        'marital_status', {_known("marital_status")},
        'household_size', {_known("household_size")},
        'household_composition', replace(
            replace({_known("household_comp")}, 'Adult Kids', 'Adult with Kids'),
            'Adults Kids', 'Adults with Kids'
        ),
        'kids_count', {_known("kids_count")}
    ) AS fields
FROM buyers
LEFT JOIN raw_demographics AS people ON people.household_id = buyers.household_id
ORDER BY user_id
"""

INTERACTIONS = f"""
WITH orders AS (
    SELECT household_id, basket_id, min(ts) AS ts
    FROM {_LINES} AS bought
    GROUP BY household_id, basket_id
),
merged AS (
    SELECT
        household_id,
        basket_id,
        item_id,
        sum(quantity) AS quantity,
        cast(sum(cast(sales_value as decimal(18, 4))) as double) / sum(quantity) AS price
    FROM {_LINES} AS bought
    GROUP BY household_id, basket_id, item_id
)
SELECT
    cast(merged.household_id as string) AS user_id,
    item_id,
    ts,
    cast(merged.basket_id as string) AS order_id,
    'purchase' AS kind,
    cast(quantity as int) AS quantity,
    price,
    cast(NULL as bigint) AS line,
    cast(NULL as string) AS note
FROM merged
JOIN orders
    ON orders.household_id = merged.household_id AND orders.basket_id = merged.basket_id
ORDER BY user_id, ts, order_id, item_id
"""

# `{sampled}` is a condition on visits and ads that looks at no label.
EXPOSURES = f"""
WITH visits AS (
    SELECT household_id, store_id, week, min(ts) AS ts
    FROM {_LINES} AS bought
    GROUP BY household_id, store_id, week
),
covers AS (
    SELECT DISTINCT
        store_id, week, promoted.product_id, item_id, path_id, mailer_location AS placement
    FROM raw_promotions AS promoted
    JOIN product_items ON product_items.product_id = promoted.product_id
    WHERE mailer_location IN {_COVER_PAGES}
      AND reason = 'kept'
),
ads AS (
    SELECT store_id, week, item_id, path_id, min(placement) AS placement
    FROM covers
    GROUP BY store_id, week, item_id, path_id
),
shown AS (
    SELECT visits.*, ads.item_id, ads.path_id, ads.placement
    FROM visits
    JOIN ads ON ads.store_id = visits.store_id AND ads.week = visits.week
    WHERE {{sampled}}
),
clicks AS (
    SELECT DISTINCT household_id, store_id, week, path_id, 1 AS click
    FROM {_LINES} AS bought
),
conversions AS (
    SELECT DISTINCT bought.household_id, bought.store_id, bought.week, bought.item_id,
        1 AS conversion
    FROM {_LINES} AS bought
    LEFT SEMI JOIN covers
        ON covers.store_id = bought.store_id
        AND covers.week = bought.week
        AND covers.product_id = bought.product_id
)
SELECT
    cast(shown.household_id as string) AS user_id,
    shown.item_id,
    shown.ts,
    shown.placement,
    coalesce(click, 0) AS click,
    coalesce(conversion, 0) AS conversion
FROM shown
LEFT JOIN clicks
    ON clicks.household_id = shown.household_id
    AND clicks.store_id = shown.store_id
    AND clicks.week = shown.week
    AND clicks.path_id = shown.path_id
LEFT JOIN conversions
    ON conversions.household_id = shown.household_id
    AND conversions.store_id = shown.store_id
    AND conversions.week = shown.week
    AND conversions.item_id = shown.item_id
ORDER BY user_id, shown.ts, shown.item_id, shown.store_id
"""

# Rows read, by the table that they feed and by what became of them. A promotion is no exposure
# yet, so those keep their own name.
COUNTS = {
    "items": "SELECT reason, count(*) AS num_rows FROM judged_products GROUP BY reason",
    "users": f"""
        SELECT
            CASE WHEN buyers.household_id IS NOT NULL THEN 'kept'
                ELSE 'no purchase kept' END AS reason,
            count(*) AS num_rows
        FROM raw_demographics AS people
        LEFT JOIN (SELECT DISTINCT household_id FROM {_LINES} AS bought) AS buyers
            ON buyers.household_id = people.household_id
        GROUP BY reason
    """,
    "interactions": """
        SELECT verdict AS reason, count(*) AS num_rows FROM judged_lines GROUP BY verdict
    """,
    "promotions": f"""
        SELECT
            CASE
                WHEN coalesce(mailer_location IN {_COVER_PAGES}, false)
                    THEN coalesce(reason, 'unknown product')
                ELSE 'not on a cover page'
            END AS reason,
            count(*) AS num_rows
        FROM (
            SELECT mailer_location, product_items.reason
            FROM raw_promotions AS promoted
            LEFT JOIN product_items ON product_items.product_id = promoted.product_id
        ) AS judged
        GROUP BY 1
    """,
}

# The first refused rows of each reason. Promotions are counted only: nearly all are refused, for
# not being on a cover page.
REFUSED = """
WITH refused AS (
    SELECT
        'items' AS `table`,
        'products.parquet' AS files,
        cast(product_id as string) AS key,
        reason,
        concat_ws(' / ', department, category, kind) AS value
    FROM judged_products
    WHERE reason <> 'kept'
    UNION ALL
    SELECT
        'interactions' AS `table`,
        'transactions.parquet' AS files,
        concat_ws(
            ' ', cast(household_id as string), cast(basket_id as string),
            cast(product_id as string)
        ) AS key,
        verdict AS reason,
        concat_ws(
            ' pieces, ',
            cast(quantity as string),
            CASE WHEN sales_value <= 1e15 THEN cast(sales_value as string)
                WHEN sales_value IS NOT NULL THEN 'no number' END
        ) AS value
    FROM judged_lines
    WHERE verdict <> 'kept'
),
placed AS (
    SELECT *, row_number() OVER (PARTITION BY `table`, reason ORDER BY key, value) AS place
    FROM refused
)
SELECT `table`, files, cast(NULL as string) AS file, cast(NULL as bigint) AS `row`,
    key, reason, value
FROM placed
WHERE place <= {most}
ORDER BY `table`, reason, key, value
"""
