"""A beam over a tree of paths in which a scorer of prefixes decides who survives: Promise.

At each depth the children of the survivors are proposed by a generator's likelihood, K+ of them are
shown to the scorer, and it keeps K (arXiv 2601.04674). Without a scorer it is the plain beam.

All users walk down together, because whoever is asked answers best in batches. Shape suffixes: C
candidates of one user, N users, B depths. Pure NumPy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from taiji.arrays import Array, Ints
from taiji.data.item_text import CategoryPath

Rate = Callable[[int, Sequence[Ints]], Sequence[Array]]
"""A number for each of each user's candidates, which are prefixes of a depth (0 = first symbol)."""


@dataclass(frozen=True)
class PathTree:
    """Prefixes of paths, numbered anew at each depth.

    Attributes:
        children: For each depth, the children there of each prefix one depth above; depth 0 has one
            row, of the root.
        paths: For each depth but the last, the categories that its prefixes stand for.
        of_title_NB: The prefixes of each title, -1 where a title has no category and so no path.
    """

    children: tuple[tuple[Ints, ...], ...]
    paths: tuple[tuple[CategoryPath, ...], ...]
    of_title_NB: Ints

    @classmethod
    def of_catalogue(cls, categories: Sequence[CategoryPath], levels: int = 3) -> "PathTree":
        """The tree of a catalogue: its categories' levels, and titles as leaves.

        A prefix of the last depth is a title's row. A category that ends early is its own only
        child, so that all paths are of one length.

        Args:
            categories: Of each title, from the top down.
            levels: How many levels a category has at most.
        """
        nodes: list[dict[CategoryPath, int]] = [{} for _ in range(levels)]
        below: list[dict[int, dict[int, None]]] = [{} for _ in range(levels + 1)]
        of_title_NB = np.full((len(categories), levels + 1), -1, dtype=np.int64)
        for title, path in enumerate(categories):
            if not path:
                continue
            above = 0
            for depth in range(levels):
                prefix = path[: depth + 1]
                node = nodes[depth].setdefault(prefix, len(nodes[depth]))
                below[depth].setdefault(above, {})[node] = None
                of_title_NB[title, depth] = above = node
            below[levels].setdefault(above, {})[title] = None
            of_title_NB[title, levels] = title
        parents = [1, *map(len, nodes)]
        children = tuple(
            tuple(np.array([*found.get(n, ())], dtype=np.int64) for n in range(count))
            for found, count in zip(below, parents, strict=True)
        )
        return cls(children, tuple(map(tuple, nodes)), of_title_NB)

    @property
    def sizes(self) -> list[int]:
        """How many prefixes each depth has."""
        return [*map(len, self.paths), len(self.of_title_NB)]

    def expand(self, depth: int, survivors: Ints) -> Ints:
        """The children, at a depth, of prefixes one depth above."""
        above = survivors if depth else np.zeros(1, dtype=np.int64)
        found = [self.children[depth][prefix] for prefix in above.tolist()]
        return np.concatenate([np.empty(0, dtype=np.int64), *found])


def keep_best(candidates_C: Ints, rated_C: Array, count: int) -> Ints:
    """The `count` candidates that are rated most, best first, the earlier of equals first."""
    kept: Ints = candidates_C[np.argsort(-rated_C, kind="stable")[:count]]
    return kept


def guided_beam(
    expand: Callable[[int, Ints], Ints],
    likelihood: Rate,
    guide: Rate | None,
    *,
    users: int,
    depths: int,
    keep: int,
    shown: int,
) -> list[list[Ints]]:
    """The survivors of each depth for each user, best first.

    Args:
        expand: The children, at a depth, of prefixes one depth above; of none at depth 0.
        likelihood: log P of prefixes under the generator.
        guide: The scorer; None for the plain beam.
        users: N.
        depths: B.
        keep: K.
        shown: K+, candidates that the scorer sees; without one K is all that counts.
    """
    survivors = [np.empty(0, dtype=np.int64)] * users
    found = []
    for depth in range(depths):
        candidates = [expand(depth, own) for own in survivors]
        best = _best(candidates, likelihood(depth, candidates), shown if guide else keep)
        survivors = best if guide is None else _best(best, guide(depth, best), keep)
        found.append(survivors)
    return found


def _best(candidates: Sequence[Ints], rated: Sequence[Array], count: int) -> list[Ints]:
    return [keep_best(own, by, count) for own, by in zip(candidates, rated, strict=True)]
