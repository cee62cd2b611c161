"""Cross-user features: the most similar other user, by exact cosine.

Shape suffixes: N users, D dimensions.
"""

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from taiji.errors import DataError


@dataclass(frozen=True)
class Neighbours:
    """The nearest other user of each user.

    Attributes:
        rows: (N,) row of the neighbour.
        similarity: (N,) cosine to it.
    """

    rows: NDArray[np.int64]
    similarity: NDArray[np.float32]


def most_similar_other_user(embeddings_ND: NDArray[np.float32]) -> Neighbours:
    """Top-1 by inner product of unit vectors, one row a user, never the user.

    Two are asked for, because a user is among their own nearest; where twins crowd the user
    out, the first of them serves.

    Raises:
        DataError: There are fewer than two users.
    """
    num_users, dimension = embeddings_ND.shape
    if num_users < 2:
        raise DataError(
            f"features: {num_users} users with text in a split: at least 2 are needed to find "
            "a neighbour; raise data.num_rank_users"
        )
    index = faiss.IndexFlatIP(dimension)
    embeddings_ND = np.ascontiguousarray(embeddings_ND)
    index.add(embeddings_ND)
    similarity_N2, rows_N2 = index.search(embeddings_ND, 2)
    first_is_self = rows_N2[:, 0] == np.arange(num_users)
    return Neighbours(
        np.where(first_is_self, rows_N2[:, 1], rows_N2[:, 0]),
        np.where(first_is_self, similarity_N2[:, 1], similarity_N2[:, 0]),
    )
