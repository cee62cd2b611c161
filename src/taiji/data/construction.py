"""A source becomes the canonical tables, written and ready to be asked."""

from collections.abc import Mapping
from pathlib import Path

from taiji import schema
from taiji.artifacts import read_parquet, write_parquet
from taiji.config import DataSection
from taiji.data.canonical import prepare
from taiji.data.engine import Engine
from taiji.data.render import cut_names
from taiji.data.tables import Counts

TABLES = ("users", "items", "interactions", "events", "exposures")


def prepare_tables(
    engine: Engine, section: DataSection, seed: int, folder: Path
) -> tuple[Mapping[str, Counts], int]:
    """Write the tables of a source and name them in the engine.

    Long names of items are cut here, once, so that every later stage reads the same.

    Returns:
        Table -> reason -> rows that were read, and how many names were cut.

    Raises:
        DataError: The source is unusable.
    """
    counts = prepare(engine, section, seed, folder)
    path = folder / "items.parquet"
    items, num_cut = cut_names(read_parquet(path, schema.ITEMS), section.text.max_title_characters)
    if num_cut:
        write_parquet(items, path, schema.ITEMS)
    for name in TABLES:
        engine.read(name, [folder / f"{name}.parquet"])
    return counts, num_cut
