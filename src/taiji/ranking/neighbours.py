"""Cross-user features: the most similar other user, by cosine.

Exact search compares everybody with everybody: right, and quadratic. Beyond a few hundred
thousand users `ivf` looks only into the cells nearest to a user, over vectors of a byte a
dimension, and takes the best of what it finds by the true cosine; `hnsw` walks a graph over
the full vectors. Codes of `quantise` are no index: by them alone two of three neighbours are
wrong.

Shape suffixes: N rows, Q queries among them, K candidates, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import faiss
import numpy as np

from taiji.arrays import Ints, Vectors
from taiji.errors import DataError

Search = Literal["exact", "ivf", "hnsw"]

PROBED_CELLS = 16
GRAPH_LINKS, GRAPH_EFFORT = 32, 64
_CANDIDATES = 8  # of each query at first: enough to re-rank, and for a few rows of one's own
_VECTORS_AT_ONCE = 65_536  # gathered to be compared: 100 MB of 384 dimensions
_ROWS_AT_ONCE = 1_024  # compared with all before them
_SAME_COSINE = 1e-5  # float32 sums in another order


@dataclass(frozen=True)
class Neighbours:
    """The nearest other user of each row.

    Attributes:
        rows: (N,) row of the neighbour; -1 if there is none.
        similarity: (N,) cosine to it.
    """

    rows: Ints
    similarity: Vectors


def most_similar_other_user(
    embeddings_ND: Vectors, user_ids: Sequence[str], search: Search = "exact"
) -> Neighbours:
    """Top-1 by inner product of unit vectors, never a row of the same user.

    Args:
        embeddings_ND: Unit vectors, a row a text.
        user_ids: Whose text each row is; a user may have several.
        search: How; where an approximate index finds no other user, the exact one serves.

    Raises:
        DataError: There are fewer than two users, or a vector is not finite.
    """
    users = _user_codes(user_ids)
    embeddings_ND = np.ascontiguousarray(embeddings_ND)
    _refuse_nan(embeddings_ND)
    index = build_index(embeddings_ND, search)
    return search_others(index, embeddings_ND, users, np.arange(len(users)))


def most_similar_earlier(
    embeddings_ND: Vectors, user_ids: Sequence[str], written_N: Ints
) -> Neighbours:
    """As `most_similar_other_user`, exact, where users have texts of several moments.

    Only texts that had been written by a row's own moment are its neighbours. The row is -1 where
    nobody else had written yet.

    Args:
        embeddings_ND: Unit vectors, a row a text.
        user_ids: Whose text each row is.
        written_N: When it was written.

    Raises:
        DataError: There are fewer than two users.
    """
    user_N = _user_codes(user_ids)
    order = np.argsort(written_N, kind="stable")
    ordered_ND, ordered_user, ordered_at = embeddings_ND[order], user_N[order], written_N[order]
    rows = np.full(len(user_N), -1, dtype=np.int64)
    similarity = np.zeros(len(user_N), dtype=np.float32)
    for begin in range(0, order.size, _ROWS_AT_ONCE):
        asked = slice(begin, begin + _ROWS_AT_ONCE)
        known = int(np.searchsorted(ordered_at, ordered_at[asked][-1], side="right"))
        cosine_QK = ordered_ND[asked] @ ordered_ND[:known].T
        cosine_QK[ordered_user[asked, None] == ordered_user[None, :known]] = -np.inf
        cosine_QK[ordered_at[asked, None] < ordered_at[None, :known]] = -np.inf
        best_Q = cosine_QK.argmax(axis=1)
        highest_Q = cosine_QK[np.arange(best_Q.size), best_Q]
        found = np.flatnonzero(highest_Q > -np.inf)
        rows[order[asked][found]] = order[best_Q[found]]
        similarity[order[asked][found]] = highest_Q[found]
    return Neighbours(rows, similarity)


def recall_at_1(
    found: Neighbours,
    embeddings_ND: Vectors,
    user_ids: Sequence[str],
    *,
    sample: int = 1000,
    seed: int = 0,
) -> float:
    """Share of sampled rows whose neighbour is as near as the nearest that there is."""
    users = _user_codes(user_ids)
    size = min(sample, len(users))
    rows = np.random.default_rng(seed).choice(len(users), size=size, replace=False)
    embeddings_ND = np.ascontiguousarray(embeddings_ND)
    best = search_others(build_index(embeddings_ND, "exact"), embeddings_ND, users, rows)
    return float((found.similarity[rows] >= best.similarity - _SAME_COSINE).mean())


def build_index(embeddings_ND: Vectors, search: Search) -> faiss.Index:
    """A Faiss index over all rows.

    A graph that several threads build may differ a little from run to run; the others do not.
    """
    num_rows, dimension = embeddings_ND.shape
    index: faiss.Index
    match search:
        case "exact":
            index = faiss.IndexFlatIP(dimension)
        case "ivf":
            index = _cells(num_rows, dimension)
            index.train(embeddings_ND)
        case "hnsw":
            index = _graph(dimension)
    index.add(embeddings_ND)
    return index


def _cells(num_rows: int, dimension: int) -> faiss.IndexIVFScalarQuantizer:
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dimension),
        dimension,
        max(1, int(2 * num_rows**0.5)),
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
    )
    index.cp.min_points_per_centroid = 1  # Faiss asks for 39 on stderr
    index.nprobe = PROBED_CELLS
    return index


def _graph(dimension: int) -> faiss.IndexHNSWFlat:
    index = faiss.IndexHNSWFlat(dimension, GRAPH_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efSearch = GRAPH_EFFORT
    return index


def _user_codes(user_ids: Sequence[str]) -> Ints:
    known, codes = np.unique(np.asarray(user_ids), return_inverse=True)
    if len(known) < 2:
        raise DataError(
            f"features: {len(known)} users with text in a split: at least 2 are needed to find "
            "a neighbour; raise data.num_rank_users"
        )
    return codes


def _refuse_nan(embeddings_ND: Vectors) -> None:
    """Faiss finds nothing for such a row, however much it is asked for."""
    bad_N = ~np.isfinite(embeddings_ND).all(axis=1)
    if bad_N.any():
        raise DataError(
            f"features: the vectors of {int(bad_N.sum())} rows hold NaN or infinity, the first is "
            f"row {int(bad_N.argmax())}: look at the encoder"
        )


def search_others(
    index: faiss.Index, embeddings_ND: Vectors, users: Ints, queries: Ints
) -> Neighbours:
    """The nearest row of another user for each of some rows.

    Args:
        index: Over all rows, by `build_index`.
        embeddings_ND: The same rows.
        users: (N,) a number for each user, of at least two.
        queries: (Q,) rows whose neighbour is sought.
    """
    return nearest_others(index, embeddings_ND, users, embeddings_ND[queries], users[queries])


def nearest_others(
    index: faiss.Index, embeddings_ND: Vectors, users: Ints, queries_QD: Vectors, own_Q: Ints
) -> Neighbours:
    """The nearest row of another user for each of some vectors, which need not be rows.

    More and more candidates are asked for until one of them is somebody else.

    Args:
        index: Over all rows, by `build_index`.
        embeddings_ND: The same rows.
        users: (N,) a number for each user, of at least two.
        queries_QD: Unit vectors whose neighbours are sought.
        own_Q: (Q,) the users whose they are; -1 for one who has no row.

    Raises:
        DataError: A vector is near to nobody, because it is made of no numbers.
    """
    num_queries = len(queries_QD)
    rows = np.full(num_queries, -1, dtype=np.int64)
    similarity = np.full(num_queries, -np.inf, dtype=np.float32)
    todo, num_candidates = np.arange(num_queries), _CANDIDATES
    while todo.size:
        if num_candidates // 16 >= len(users):  # all were, by the exact index too
            raise DataError(f"features: row {todo[0]} has no neighbour: its vector is bad")
        if num_candidates // 4 >= len(users):  # all were asked for: the index has blind spots
            index = build_index(embeddings_ND, "exact")
        asked = min(num_candidates, len(users))
        for part in np.array_split(todo, -(-todo.size * asked // _VECTORS_AT_ONCE)):
            found = index.search(queries_QD[part], asked)[1]
            best = _best_of(found, embeddings_ND, users, queries_QD[part], own_Q[part])
            rows[part], similarity[part] = best
        todo = todo[similarity[todo] == -np.inf]
        num_candidates *= 4
    return Neighbours(rows, similarity)


def _best_of(
    rows_QK: Ints, embeddings_ND: Vectors, users: Ints, queries_QD: Vectors, own_Q: Ints
) -> tuple[Ints, Vectors]:
    """The best candidate by true cosine that is another user's; -inf where there is none."""
    cosine_QK = np.einsum("qkd,qd->qk", embeddings_ND[rows_QK], queries_QD)
    other_QK = (rows_QK >= 0) & (users[rows_QK] != own_Q[:, None])
    cosine_QK = np.where(other_QK, cosine_QK, -np.inf).astype(np.float32)
    best_Q = cosine_QK.argmax(axis=1)
    each = np.arange(len(rows_QK))
    return rows_QK[each, best_Q], cosine_QK[each, best_Q]
