"""Whose sequence a user borrows: the nearest other user of the run, as of the borrower's moment.

Neighbours and what they lend belong to the version: vectors and sequences are those that the run
knew. So features depend on the user's own past alone and not on the order in which workers come to
others; a run that is published anew brings newer lenders.

Shape suffixes: N lenders, Q borrowers, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taiji.arrays import Ints, Vectors
from taiji.data.engine.protocol import Engine
from taiji.errors import DataError
from taiji.ranking.neighbours import Search, build_index, nearest_others
from taiji.schema import TIME, USER_FEATURES
from taiji.store.files import read_parquet

SPLIT = "rank_test"
"""Of the run's users: the newest look at them."""

# The order of `AsOf.last_items`: the newest first, and at one moment the later in the catalogue.
_LAST = """
WITH lines AS (
    SELECT
        borrowers.place,
        log.item_id,
        row_number() OVER (
            PARTITION BY borrowers.place ORDER BY log.ts DESC, catalogue.row_no DESC
        ) AS line
    FROM borrowers
    JOIN run_interactions AS log
        ON log.user_id = borrowers.lender AND log.ts < borrowers.cutoff
    JOIN catalogue ON catalogue.item_id = log.item_id
)
SELECT place, item_id FROM lines WHERE line <= {length} ORDER BY place, line
"""


@dataclass(frozen=True)
class LenderVectors:
    """The vectors of a run's users.

    Attributes:
        user_ids: Whose each row is, sorted.
        embeddings_ND: Unit vectors.
    """

    user_ids: pa.Array
    embeddings_ND: Vectors


def read_vectors(features: Path) -> LenderVectors:
    """The vectors of the users of `SPLIT`, sorted by user.

    Raises:
        DataError: The files do not fit each other, or there are fewer than two users.
    """
    table = read_parquet(features / "features.parquet", USER_FEATURES)
    path = features / "embeddings.npy"
    try:
        embeddings_ND: Vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}): rerun features") from error
    if len(embeddings_ND) != table.num_rows:
        raise DataError(f"{path}: {len(embeddings_ND)} rows for {table.num_rows}: rerun features")
    rows = np.flatnonzero(pc.equal(table["split"], SPLIT))
    users = table["user_id"].combine_chunks().take(pa.array(rows))
    order = pc.sort_indices(users)
    if len(pc.unique(users)) < 2:
        raise DataError(f"{features}: at least two users of {SPLIT} are needed to lend")
    own_ND = np.ascontiguousarray(embeddings_ND[rows[order.to_numpy()]])
    return LenderVectors(users.take(order), own_ND)


@dataclass(frozen=True)
class Loan:
    """What a user borrows.

    Attributes:
        lender: The id of the nearest other user.
        items: What they did last, newest first.
    """

    lender: str
    items: list[str]


class Lenders:
    """Finds lenders and what they lend.

    Args:
        features: The run's folder of that stage.
        items: The run's items.parquet: its order is the catalogue's.
        engine: Knows `run_interactions`.
        search: How neighbours are searched.
        length: Items that are borrowed at most.
    """

    def __init__(
        self, features: Path, items: Path, engine: Engine, search: Search, length: int
    ) -> None:
        self._engine, self._search, self._length = engine, search, length
        ids = pq.read_table(items, columns=["item_id"])["item_id"]
        rows = pa.array(np.arange(len(ids)))
        engine.register("catalogue", pa.table({"item_id": ids, "row_no": rows}))
        self.reload(features)

    def reload(self, features: Path) -> None:
        """Read the vectors again, because a user was erased from them."""
        self._vectors = read_vectors(features)
        encoded = self._vectors.user_ids.dictionary_encode()
        self._known = encoded.dictionary
        self._users: Ints = encoded.indices.to_numpy().astype(np.int64)
        self._index = build_index(self._vectors.embeddings_ND, self._search)

    def lend(
        self, users: Sequence[str], cutoffs: Sequence[datetime], queries_QD: Vectors
    ) -> list[Loan]:
        """What each user borrows.

        Args:
            users: The borrowers.
            cutoffs: Only what the lender had done before is lent.
            queries_QD: Unit vectors of the borrowers' texts.
        """
        places = pc.index_in(pa.array(users, pa.string()), value_set=self._known)
        own_Q: Ints = pc.fill_null(places, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        vectors_ND = self._vectors.embeddings_ND
        nearest = nearest_others(self._index, vectors_ND, self._users, queries_QD, own_Q)
        borrowers = pa.table(
            {
                "place": pa.array(range(len(users)), pa.int64()),
                "lender": self._vectors.user_ids.take(pa.array(nearest.rows)),
                "cutoff": pa.array(cutoffs, TIME),
            }
        )
        self._engine.register("borrowers", borrowers)
        lent = self._engine.query(_LAST.format(length=self._length))
        sequences: list[list[str]] = [[] for _ in users]
        for place, item in zip(lent["place"].to_pylist(), lent["item_id"].to_pylist(), strict=True):
            sequences[place].append(item)
        lenders = borrowers["lender"].to_pylist()
        return [Loan(*pair) for pair in zip(lenders, sequences, strict=True)]
