"""Which text serves which exposure: the user's newest one that was written by then.

Shape suffixes: U texts, N pairs.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from taiji.arrays import Ints
from taiji.errors import DataError


def dealt_out(user_ids: Sequence[str], written_U: Ints, salt: str) -> Ints:
    """(U,) for each text the one that another user, one and the same for each, had by then.

    -1 where that user had none yet.
    """
    names = sorted(set(user_ids))
    donors = dict(zip(names, (names[row] for row in random_others(names, salt)), strict=True))
    others = np.array([donors[user] for user in user_ids], dtype=object)
    return serving_texts(user_ids, written_U, others, written_U)


def random_others(user_ids: Sequence[str], salt: str) -> Ints:
    """For each user the row of a random other one, each taken once; a lone user keeps himself."""
    keys = [hashlib.blake2b(f"{salt}|{user}".encode(), digest_size=8).digest() for user in user_ids]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    donors = np.empty_like(order)
    donors[order] = np.roll(order, 1)
    return donors


def serving_texts(
    text_users: Sequence[str], written_U: Ints, user_ids: NDArray[np.object_], ts_N: Ints
) -> Ints:
    """(N,) the row of the text that serves each pair; -1 where the user has none yet.

    A text of a moment reads what lies strictly before it, so that it may serve the very moment.

    Args:
        text_users: Whose each text is.
        written_U: When each was written, microseconds.
        user_ids: The user of each pair.
        ts_N: When each pair was shown.

    Raises:
        DataError: Two texts of a user have one moment.
    """
    if not len(text_users):
        return np.full(ts_N.size, -1, dtype=np.int64)
    names, user_U = np.unique(np.asarray(text_users, dtype=object).astype(str), return_inverse=True)
    order = np.lexsort((written_U, user_U))
    user, written = user_U[order], written_U[order]
    if ((np.diff(user) == 0) & (np.diff(written) == 0)).any():
        raise DataError("texts: two of one user and moment: keep one of them")
    asked, of_pair = np.unique(user_ids.astype(str), return_inverse=True)
    place = np.searchsorted(names, asked)
    place = np.where(place < names.size, place, 0)
    user_N = np.where(names[place] == asked, place, -1)[of_pair]
    ticks = np.unique(written)
    key = user * (ticks.size + 1) + np.searchsorted(ticks, written)
    wanted = user_N * (ticks.size + 1) + np.searchsorted(ticks, ts_N, side="right") - 1
    at = np.searchsorted(key, wanted, side="right") - 1
    found = (user_N >= 0) & (at >= 0) & (user[np.maximum(at, 0)] == user_N)
    return np.where(found, order[np.maximum(at, 0)], -1).astype(np.int64)
