"""What the arm `match` needs, beside the other features of one model's texts.

`names.parquet` has the categories that each text names, `likelihoods.parquet` how likely the model
finds each category if that was asked for, `item_vectors.npy` the embedded texts of
all items that anybody is shown in the two ranking windows; the texts' own vectors are
`embeddings.npy`. Rows are those of features.parquet.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taiji.arrays import Ints
from taiji.config import MatchSection
from taiji.data.calendar import RANK_SPLITS
from taiji.data.item_text import item_texts
from taiji.errors import DataError
from taiji.ranking.categories import NOTHING, Categories, path_text
from taiji.ranking.columns import microseconds
from taiji.ranking.match import TextMatch
from taiji.ranking.named import NameReader, as_rows, nearest_categories
from taiji.stages.parts.category_likelihoods import LIKELIHOODS, read_likelihoods
from taiji.stages.parts.constructed import Constructed
from taiji.store.files import read_parquet, replacing, write_parquet

NAMES = pa.schema(
    [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("names", pa.list_(pa.string()), nullable=False),  # for a person
        pa.field("nodes", pa.list_(pa.int64()), nullable=False),  # of `Categories.from_items`
    ]
)

Encode = Callable[[Sequence[str]], NDArray[np.float32]]


def write_names(
    folder: Path, users: pa.Table, items: pa.Table, section: MatchSection, encode: Encode
) -> dict[str, float]:
    """Write names.parquet; return how many texts named something, and how much.

    Args:
        folder: Of one model's features.
        users: example_id, user_id, split, cutoff, text and answer, a row for each row of
            features.parquet.
        items: Columns of `schema.ITEMS`.
        section: The recipe's `features.match`.
        encode: Embeds sentences and categories where names are found by nearness.
    """
    categories = Categories.from_items(items)
    names = read_names(
        users["answer"].to_pylist(),
        users["text"].to_pylist(),
        microseconds(users["cutoff"]),
        items,
        categories,
        section,
        encode,
    )
    nodes = [[int(node) for node in row if node != NOTHING] for row in names]
    table = pa.table(
        {
            **{name: users[name] for name in ("example_id", "user_id", "split")},
            "names": [[path_text(categories.paths[node]) for node in row] for row in nodes],
            "nodes": nodes,
        },
        schema=NAMES,
    )
    write_parquet(table, folder / "names.parquet", NAMES)
    sizes = [len(row) for row in nodes]
    return {
        "texts_with_names": float(np.mean([size > 0 for size in sizes])) if sizes else 0.0,
        "names_a_text": float(np.mean(sizes)) if sizes else 0.0,
    }


def read_names(
    answers: Sequence[str],
    texts: Sequence[str],
    written_U: Ints,
    items: pa.Table,
    categories: Categories,
    section: MatchSection,
    encode: Encode,
) -> NDArray[np.int64]:
    """(U, K): the categories that each text names, as `taiji.ranking.named` finds them."""
    reader = NameReader(items, categories)
    names = [reader.read(*both) for both in zip(answers, texts, strict=True)]
    silent = [row for row, found in enumerate(names) if not found]
    if section.nearest and silent:
        near_UK = nearest_categories(
            [texts[row] for row in silent], written_U[silent], categories, encode, section.nearest
        )
        for row, found in zip(silent, near_UK.tolist(), strict=True):
            names[row] = [node for node in found if node != NOTHING]
    return as_rows(names)


def write_item_vectors(logs: Constructed, folder: Path, encode: Encode) -> int:
    """Write item_vectors.npy; return how many items have a vector."""
    vectors = item_vectors(logs, encode)
    with replacing(folder / "item_vectors.npy") as temporary, temporary.open("wb") as stream:
        np.save(stream, vectors, allow_pickle=False)
    return int(vectors.any(axis=1).sum())


def item_vectors(logs: Constructed, encode: Encode) -> NDArray[np.float32]:
    """A row for each catalogue row: the item's text, embedded if a ranking window shows it.

    The others keep zeros.
    """
    items, exposures = logs.items, logs.labelled_exposures
    windows = [logs.calendar.window(name).rows(exposures) for name in RANK_SPLITS.values()]
    shown = pc.unique(pa.concat_tables(windows)["item_id"])
    rows = np.asarray(pc.index_in(shown, value_set=items["item_id"].combine_chunks()))
    found = encode(item_texts(items.take(pa.array(rows))))
    vectors = np.zeros((items.num_rows, found.shape[1]), dtype=np.float32)
    vectors[rows] = found
    return vectors


def read_match(
    folder: Path, root: Path, items: pa.Table, texts_UV: NDArray[np.float32]
) -> tuple[TextMatch, pa.Table]:
    """The match of all rows of a folder's features.parquet, and their splits.

    Args:
        folder: Of one model's features.
        root: Of the stage, where the items' vectors lie.
        items: Columns of `schema.ITEMS`.
        texts_UV: embeddings.npy.

    Raises:
        MissingArtifactError: The features were made without `features.match`.
        DataError: Files do not fit one another.
    """
    table = read_parquet(folder / "names.parquet", NAMES)
    path = root / "item_vectors.npy"
    try:
        vectors: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}): rerun features") from error
    if len(vectors) != items.num_rows:
        raise DataError(f"{path}: {len(vectors)} rows for {items.num_rows} items: rerun features")
    names_UK = as_rows([*table["nodes"].to_pylist(), []])
    texts = np.pad(texts_UV, ((0, 1), (0, 0)))
    categories = Categories.from_items(items)
    likely = None
    if (folder / "likelihoods.parquet").is_file():
        scores = read_parquet(folder / "likelihoods.parquet", LIKELIHOODS)
        known_UC = read_likelihoods(scores, table["example_id"].to_pylist(), len(categories.paths))
        likely = np.pad(known_UC, ((0, 1), (0, 0)))
    return TextMatch(categories, names_UK, texts, vectors, likely), table
