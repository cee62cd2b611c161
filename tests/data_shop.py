"""A made-up shop in files of its own layout, and a way to prepare it."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from taiji.config import DataSection
from taiji.data.engine.duckdb_engine import DuckDbEngine
from taiji.data.tables.canonical import Prepared, prepare_all

ITEMS = "sku,name,path\nmug,Blue mug,Kitchen > Mugs\npot,Tea pot,Kitchen > Pots > Iron\nrug,Rug,\n"
ORDERS = (
    "customer,sku,when,order,pieces,amount\n"
    "ann,mug,2024-01-03T10:00:00Z,o1,2,20.00\n"
    "ann,pot,2024-01-03T10:00:00Z,o1,1,30.00\n"
    "bob,mug,2024-02-04T09:30:00Z,o2,1,9.50\n"
    "bob,rug,2024-02-05T09:30:00Z,o3,1,80.00\n"
)
TABLES = ("users", "items", "interactions", "exposures", "events", "quarantine")


def shop(folder: Path, **changes: Any) -> dict[str, Any]:
    """The source section of the shop; `interactions={...}` adds to what stands there."""
    source: dict[str, Any] = {
        "kind": "tables",
        "path": str(folder),
        "tolerance": 1.0,
        "observed_until": "2024-12-31",
        "items": {
            "files": "items.csv",
            "item_id": "sku",
            "title": "name",
            "categories": {"column": "path", "separator": " > "},
        },
        "interactions": {
            "files": "orders.csv",
            "user_id": "customer",
            "item_id": "sku",
            "ts": "when",
            "order_id": "order",
            "quantity": "pieces",
            "price": {"column": "amount", "per": "line"},
        },
    }
    for name, change in changes.items():
        both = isinstance(change, dict) and isinstance(source.get(name), dict)
        source[name] = source[name] | change if both else change
    return source


def write_shop(folder: Path, items: str = ITEMS, orders: str = ORDERS) -> Path:
    (folder / "items.csv").write_text(items, encoding="utf-8")
    (folder / "orders.csv").write_text(orders, encoding="utf-8")
    return folder


def prepared(
    source: dict[str, Any], out: Path, **section: Any
) -> tuple[Prepared, dict[str, list[dict[str, Any]]]]:
    """Prepare a source; return what was said of it and the rows of every table."""
    data = DataSection.model_validate({"exposure_share": 1.0, "source": source} | section)
    out.mkdir(exist_ok=True)
    engine = DuckDbEngine(out / "scratch")
    try:
        result = prepare_all(engine, data, 17, out)
    finally:
        engine.close()
    return result, {name: pq.read_table(out / f"{name}.parquet").to_pylist() for name in TABLES}


def said(result: Prepared) -> str:
    return "\n".join(map(str, result.problems))
