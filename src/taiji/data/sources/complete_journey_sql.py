"""The queries of `taiji.data.sources.complete_journey`, in the order in which they run.

Each names its steps and reads from top to bottom. `known(x)` is null for a null, a blank and
the word NaN. Sums of money run over decimals: a sum of floats depends on the thread that adds.
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

# One row a product: why it is no item, or the group of products that share a title.
PRODUCTS = f"""
CREATE TEMP TABLE judged_products AS
WITH named AS (
    SELECT
        product_id,
        known(department) AS department,
        known(product_category) AS category,
        known(product_type) AS kind,
        known(brand) AS brand,
        known(package_size) AS size
    FROM products
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

# `catalogue` is registered from Python: one row a group, with its item.
PRODUCT_ITEMS = """
CREATE TEMP TABLE product_items AS
WITH paths AS (
    SELECT
        group_id,
        item_id,
        dense_rank() OVER (ORDER BY category_l1, category_l2, category_l3) AS path_id
    FROM catalogue
)
SELECT product_id, reason, item_id, path_id
FROM judged_products
LEFT JOIN paths USING (group_id)
"""

LINES = """
CREATE TEMP TABLE judged_lines AS
SELECT
    household_id,
    store_id,
    basket_id,
    week,
    transaction_timestamp::TIMESTAMP AS ts,
    product_id,
    item_id,
    path_id,
    quantity,
    sales_value,
    CASE
        WHEN household_id IS NULL OR store_id IS NULL OR basket_id IS NULL THEN 'no key'
        WHEN week IS NULL OR ts IS NULL THEN 'no time'
        WHEN reason IS NULL THEN 'unknown product'
        WHEN reason <> 'kept' THEN reason
        WHEN quantity IS NULL OR quantity <= 0 THEN 'quantity not positive'
        WHEN sales_value IS NULL OR NOT isfinite(sales_value) OR sales_value <= 0
            THEN 'sales not positive'
        ELSE 'kept'
    END AS verdict
FROM transactions
LEFT JOIN product_items USING (product_id);

CREATE TEMP VIEW lines AS SELECT * FROM judged_lines WHERE verdict = 'kept';
"""

ITEMS = """
SELECT DISTINCT item_id, title, category_l1, category_l2, category_l3, brand
FROM catalogue
ORDER BY item_id
"""

# `{held_out}` is a condition on user_id.
USERS = r"""
WITH buyers AS (SELECT DISTINCT household_id, household_id::VARCHAR AS user_id FROM lines)
SELECT
    user_id,
    {held_out} AS holdout,
    map {{
        'age': known(age),
        'income': known(income),
        'home_ownership': known(home_ownership),
        'marital_status': known(marital_status),
        'household_size': known(household_size),
        'household_composition':
            regexp_replace(known(household_comp), '(Adults?) Kids', '\1 with Kids'),
        'kids_count': known(kids_count)
    }} AS fields
FROM buyers
LEFT JOIN demographics USING (household_id)
ORDER BY user_id
"""

INTERACTIONS = """
WITH orders AS (
    SELECT household_id, basket_id, min(ts) AS ts
    FROM lines
    GROUP BY ALL
),
merged AS (
    SELECT
        household_id,
        basket_id,
        item_id,
        sum(quantity) AS quantity,
        sum(sales_value::DECIMAL(18, 4))::DOUBLE / sum(quantity) AS price
    FROM lines
    GROUP BY ALL
)
SELECT
    household_id::VARCHAR AS user_id,
    item_id,
    ts,
    basket_id::VARCHAR AS order_id,
    'purchase' AS kind,
    quantity::INTEGER AS quantity,
    price
FROM merged
JOIN orders USING (household_id, basket_id)
ORDER BY user_id, ts, order_id, item_id
"""

# `{sampled}` is a condition on v and a that looks at no label.
EXPOSURES = f"""
WITH visits AS (
    SELECT household_id, store_id, week, min(ts) AS ts
    FROM lines
    GROUP BY ALL
),
covers AS (
    SELECT DISTINCT store_id, week, product_id, item_id, path_id, mailer_location AS placement
    FROM promotions
    JOIN product_items USING (product_id)
    WHERE mailer_location IN {_COVER_PAGES}
      AND reason = 'kept'
),
ads AS (
    SELECT store_id, week, item_id, path_id, min(placement) AS placement
    FROM covers
    GROUP BY ALL
),
shown AS (
    SELECT v.*, a.item_id, a.path_id, a.placement
    FROM visits AS v
    JOIN ads AS a USING (store_id, week)
    WHERE {{sampled}}
),
clicks AS (
    SELECT DISTINCT household_id, store_id, week, path_id, 1 AS click
    FROM lines
),
conversions AS (
    SELECT DISTINCT l.household_id, l.store_id, l.week, l.item_id, 1 AS conversion
    FROM lines AS l
    SEMI JOIN covers AS c
        ON c.store_id = l.store_id AND c.week = l.week AND c.product_id = l.product_id
)
SELECT
    household_id::VARCHAR AS user_id,
    item_id,
    ts,
    placement,
    coalesce(click, 0) AS click,
    coalesce(conversion, 0) AS conversion
FROM shown
LEFT JOIN clicks USING (household_id, store_id, week, path_id)
LEFT JOIN conversions USING (household_id, store_id, week, item_id)
ORDER BY user_id, ts, item_id, store_id
"""

# Rows read, by table and by what became of them.
COUNTS = {
    "products": """
        SELECT reason, count(*) AS num_rows FROM judged_products GROUP BY ALL ORDER BY ALL
    """,
    "transactions": """
        SELECT verdict AS reason, count(*) AS num_rows
        FROM judged_lines
        GROUP BY ALL
        ORDER BY ALL
    """,
    "promotions": f"""
        WITH located AS (
            SELECT
                product_id,
                mailer_location IN {_COVER_PAGES} AS on_cover
            FROM promotions
        ),
        judged AS (
            SELECT
                CASE
                    WHEN on_cover IS NOT TRUE THEN 'not on a cover page'
                    ELSE coalesce(reason, 'unknown product')
                END AS reason
            FROM located
            LEFT JOIN product_items USING (product_id)
        )
        SELECT reason, count(*) AS num_rows FROM judged GROUP BY ALL ORDER BY ALL
    """,
    "demographics": """
        SELECT
            CASE WHEN household_id IN (SELECT household_id FROM lines) THEN 'kept'
                ELSE 'no purchase kept' END AS reason,
            count(*) AS num_rows
        FROM demographics
        GROUP BY ALL
        ORDER BY ALL
    """,
}

# The first refused rows of each reason. Promotions are counted only: nearly all are refused, for
# not being on a cover page.
REFUSED = """
WITH refused AS (
    SELECT
        'products' AS "table",
        product_id::VARCHAR AS key,
        reason,
        concat_ws(' / ', department, category, kind) AS value
    FROM judged_products
    WHERE reason <> 'kept'
    UNION ALL
    SELECT
        'transactions',
        concat_ws(' ', household_id, basket_id, product_id),
        verdict,
        concat_ws(' pieces, ', quantity, sales_value)
    FROM judged_lines
    WHERE verdict <> 'kept'
),
placed AS (
    SELECT *, row_number() OVER (PARTITION BY "table", reason ORDER BY key, value) AS place
    FROM refused
)
SELECT "table", "table" || '.parquet' AS files, NULL::VARCHAR AS file, NULL::BIGINT AS "row",
    key, reason, value
FROM placed
WHERE place <= {most}
ORDER BY "table", reason, key, value
"""
