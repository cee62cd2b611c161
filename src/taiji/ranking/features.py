"""The language features of users, from their texts' embeddings.

Shape suffixes: N users with text, D dimensions.
"""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taiji.ranking.neighbours import most_similar_other_user
from taiji.ranking.pairs import AsOf
from taiji.ranking.quantise import Codebook
from taiji.schema import USER_FEATURES


def feature_text(cot: str, answer: str) -> str:
    """What stands for a user: the reasoning and the predicted item, whichever there is."""
    return "\n".join(part for part in (cot.strip(), answer.strip()) if part)


def user_features(
    examples: pa.Table,
    embeddings_ND: NDArray[np.float32],
    codebook: Codebook,
    asof: AsOf,
    neighbour_items: int,
) -> pa.Table:
    """Codes and borrowed sequence of the users of one split, as `schema.USER_FEATURES`.

    The neighbour is sought among the same split only, and lends what they had bought before
    the *borrower's* cut-off: nothing that a service could not have known then.

    Args:
        examples: example_id, user_id, split and cutoff of N users.
        embeddings_ND: Unit vectors of their texts.
        codebook: Frozen.
        asof: The event log.
        neighbour_items: How many items are borrowed (paper: 100).
    """
    users: Sequence[str] = examples["user_id"].to_pylist()
    cutoffs: Sequence[datetime] = examples["cutoff"].to_pylist()
    nearest = most_similar_other_user(embeddings_ND)
    neighbours = [users[row] for row in nearest.rows]
    return pa.table(
        {
            "example_id": examples["example_id"],
            "user_id": examples["user_id"],
            "split": examples["split"],
            "codes": codebook.compute_codes(embeddings_ND).tolist(),
            "neighbour_user_id": neighbours,
            "similarity": nearest.similarity,
            "neighbour_item_ids": asof.last_items(neighbours, cutoffs, neighbour_items),
        },
        schema=USER_FEATURES,
    )
