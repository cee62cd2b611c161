"""A source becomes the canonical tables, written and ready to be asked."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taiji import schema
from taiji.config import DataSection
from taiji.data.engine.parquet_stream import write_batches
from taiji.data.engine.protocol import Engine
from taiji.data.item_text import short_name
from taiji.data.problems import Counts
from taiji.data.tables.canonical import prepare
from taiji.data.tables.reach import Contents, counted
from taiji.data.tables.sampled_exposures import sample_exposures
from taiji.data.tables.target_kinds import find_target_kinds
from taiji.store.files import read_parquet, write_parquet

TABLES = ("users", "items", "interactions", "events", "exposures")

_NAMES = ("title", "category_l1", "category_l2", "category_l3", "brand")


def prepare_tables(
    engine: Engine, section: DataSection, seed: int, folder: Path
) -> tuple[Mapping[str, Counts], int, Contents]:
    """Write the tables of a source and name them in the engine.

    Names of items are cut and set in sentence case here, once, so that every later stage reads the
    same, and profile
    fields outside the allow-list lose their values: no later stage can tell or learn them.

    Returns:
        Table -> reason -> rows that were read, how many names were cut, and what the log holds.

    Raises:
        DataError: The source is unusable.
    """
    counts = prepare(engine, section, seed, folder)
    path = folder / "items.parquet"
    found = read_parquet(path, schema.ITEMS)
    cased = sentence_cased(found) if section.text.sentence_case else found
    items, num_cut = cut_names(cased, section.text.max_title_characters)
    if num_cut or section.text.sentence_case:
        write_parquet(items, path, schema.ITEMS)
    if section.text.fields is not None:
        keep_fields(folder / "users.parquet", section.text.fields)
    for name in TABLES:
        engine.read(name, [folder / f"{name}.parquet"])
    kinds = find_target_kinds(engine, section)
    if section.sampled_negatives is not None:
        sample_exposures(engine, section, seed, folder, kinds)
        engine.read("exposures", [folder / "exposures.parquet"])
    return counts, num_cut, counted(engine, section, kinds)


def keep_fields(path: Path, allowed: Sequence[str]) -> None:
    """Empty the other fields in a users table; their names stay."""
    names = pa.array(allowed, pa.string())

    def kept(batch: pa.RecordBatch) -> pa.RecordBatch:
        fields = batch.column("fields")
        values = pc.if_else(pc.is_in(fields.keys, value_set=names), fields.items, None)
        emptied = pa.MapArray.from_arrays(fields.offsets, fields.keys, values)
        place = batch.schema.get_field_index("fields")
        return batch.set_column(place, batch.schema.field(place), emptied)

    write_batches(map(kept, pq.ParquetFile(path).iter_batches()), path, schema.USERS)


def sentence_cased(items: pa.Table) -> pa.Table:
    """Names that are all in capitals with one at their beginning: `OAT MILK 1 L` -> `Oat milk 1 l`.

    A tokenizer has few words in capitals, so such a name costs up to twice as many tokens.
    """
    for name in _NAMES:
        column = items[name]
        is_loud = pc.and_(
            pc.equal(column, pc.utf8_upper(column)), pc.not_equal(column, pc.utf8_lower(column))
        )
        quiet = pc.if_else(is_loud, pc.utf8_capitalize(column), column)
        place = items.schema.get_field_index(name)
        items = items.set_column(place, items.field(place), quiet)
    return items


def cut_names(items: pa.Table, max_characters: int) -> tuple[pa.Table, int]:
    """Cut long titles and category and brand names of an items table between graphemes.

    Done once, before the table is written, so that every later stage reads the same names.

    Returns:
        The table, and how many names were cut.
    """
    num_cut = 0
    for name in _NAMES:
        column = items[name]
        is_long = pc.fill_null(pc.greater(pc.utf8_length(column), max_characters), False)
        num_long = pc.sum(is_long).as_py() or 0
        if num_long:
            short = [
                short_name(text, max_characters) if long else text
                for text, long in zip(column.to_pylist(), is_long.to_pylist(), strict=True)
            ]
            place = items.schema.get_field_index(name)
            items = items.set_column(place, items.field(place), pa.array(short, column.type))
            num_cut += num_long
    return items, num_cut
