"""The score pool of Eq. 4: which user-item pairs stand for what a policy may answer.

Drawn from what happened before a moment, never from labels after it. Half the pairs are a full
grid of users and items, so that one can see how personal the scores are; the other half are
items that their users had bought before, because a policy that reads histories names those,
and bounds fitted without them would clip its best answers.
"""

from dataclasses import dataclass
from datetime import datetime
from math import isqrt

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taiji.errors import DataError


@dataclass(frozen=True)
class Pool:
    """Pairs to score.

    Attributes:
        pairs: Columns user_id and item_id; first the grid, user by user, then the own items.
        num_users: Rows of the grid.
        num_items: Its columns.
    """

    pairs: pa.Table
    num_users: int
    num_items: int


def draw_pool(interactions: pa.Table, before: datetime, num_pairs: int, seed: int) -> Pool:
    """Draw about `num_pairs` pairs from the interactions before a moment.

    Items of the grid are those of random lines, so popular ones are likelier, as in a policy's
    answers and in production traffic.

    Raises:
        DataError: Fewer than two users or items had been seen by then.
    """
    known = interactions.filter(pc.less(interactions["ts"], before))
    user_of_line = known["user_id"].combine_chunks().dictionary_encode()
    item_of_line = known["item_id"].combine_chunks().dictionary_encode()
    random = np.random.default_rng(seed)
    side = isqrt(num_pairs // 2)
    lines = random.permutation(known.num_rows)
    users = random.permutation(len(user_of_line.dictionary))[:side]
    items = _first_distinct(np.asarray(item_of_line.indices)[lines], side)
    if min(users.size, items.size) < 2:
        raise DataError(
            f"simulate: {users.size} users and {items.size} items before {before}: the pool "
            "needs at least 2 of each"
        )
    own = known.select(["user_id", "item_id"]).take(lines).group_by(["user_id", "item_id"])
    own_pairs = own.aggregate([]).sort_by([("user_id", "ascending"), ("item_id", "ascending")])
    rest = random.permutation(own_pairs.num_rows)[: num_pairs - users.size * items.size]
    grid = pa.table(
        {
            "user_id": user_of_line.dictionary.take(np.repeat(users, items.size)),
            "item_id": item_of_line.dictionary.take(np.tile(items, users.size)),
        }
    )
    pairs = pa.concat_tables([grid, own_pairs.take(rest).cast(grid.schema)])
    return Pool(pairs, int(users.size), int(items.size))


def _first_distinct(codes: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """The first `count` different codes, in their order."""
    values, first = np.unique(codes, return_index=True)
    return np.asarray(values[np.argsort(first)][:count])
