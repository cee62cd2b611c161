"""What the log alone says a user buys next: favourites, and what goes with his past.

A language model that reads nothing but the log can hardly say more, so these lists stand on the
same axes as the oracle. They use nothing at or after the moment that they serve.

Shape suffixes: U users, M moments, C categories, K names.
"""

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from taiji.arrays import Ints, Vectors
from taiji.lift.moments import Moments
from taiji.lift.purchases import Purchases
from taiji.ranking.categories import NOTHING

LISTS = ("favourites", "co-purchase", "co-purchase, new")

_MOMENTS = 2_048


def log_names(
    moments: Moments, purchases: Purchases, *, before: int, num_nodes: int, names: int
) -> dict[str, Ints]:
    """(M, names) of each list, best first.

    Args:
        moments: Whom to serve, and when.
        purchases: The log.
        before: What goes together is counted before this moment, which no served one precedes.
        num_nodes: C.
        names: K.
    """
    together_CC = _cosines(purchases, before, num_nodes)
    found: dict[str, list[Ints]] = {name: [] for name in LISTS}
    for counts_MC in _pasts(moments, purchases, num_nodes):
        known_MC = counts_MC > 0
        related_MC = known_MC.astype(np.float32) @ together_CC  # dense: a past holds much
        for name, weights_MC in zip(
            LISTS,
            (counts_MC, related_MC, np.where(known_MC, np.float32(0), related_MC)),
            strict=True,
        ):
            found[name].append(top_names(weights_MC, names))
    return {name: np.concatenate(parts) for name, parts in found.items() if parts}


def _cosines(purchases: Purchases, before: int, num_nodes: int) -> Vectors:
    """(C, C): how alike the buyers of two categories are; a category goes not with itself."""
    past = purchases.ts_E < before
    pairs = np.unique(purchases.user_E[past] * num_nodes + purchases.node_E[past])
    shape = int(purchases.user_E.max(initial=0)) + 1, num_nodes
    bought_UC = sparse.csr_array(
        (np.ones(pairs.size), (pairs // num_nodes, pairs % num_nodes)), shape=shape
    )
    both_CC = np.asarray((bought_UC.T @ bought_UC).todense())
    size_C = np.sqrt(np.maximum(np.diag(both_CC), 1.0))
    cosine_CC = both_CC / size_C / size_C[:, None]
    np.fill_diagonal(cosine_CC, 0.0)
    return np.asarray(cosine_CC, dtype=np.float32)


def _pasts(moments: Moments, purchases: Purchases, num_nodes: int) -> Iterator[Vectors]:
    """(some M, C): how often each category was bought strictly before each moment."""
    for start in range(0, moments.user_M.size, _MOMENTS):
        user, now = (of[start : start + _MOMENTS] for of in (moments.user_M, moments.begins_M))
        moment, node = purchases.lines(user, np.full_like(now, np.iinfo(np.int64).min), now)
        counts = np.bincount(moment * num_nodes + node, minlength=user.size * num_nodes)
        yield counts.reshape(user.size, num_nodes).astype(np.float32)


def top_names(weights_MC: Vectors, count: int) -> Ints:
    """(M, count): the nodes of most weight, heaviest first; `NOTHING` where no weight is left."""
    count = min(count, weights_MC.shape[1])
    some_MK = np.argpartition(-weights_MC, count - 1, axis=1)[:, :count]
    some_MK.sort(axis=1)  # equals stand in the order of their nodes
    found_MK = np.take_along_axis(weights_MC, some_MK, axis=1)
    order_MK = np.take_along_axis(some_MK, np.argsort(-found_MK, axis=1, kind="stable"), axis=1)
    heavy = np.take_along_axis(weights_MC, order_MK, axis=1) > 0
    return np.where(heavy, order_MK, NOTHING)
