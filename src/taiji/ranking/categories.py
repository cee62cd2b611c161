"""The tree of categories, and which pairs a list of named categories matches.

A name is a node of the tree at any depth: an oracle names a category in full, a text may know only
its upper levels.

Shape suffixes: N pairs, M moments at which a text was written, K names of a text, C nodes, I items,
L levels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from taiji.arrays import Ints, Vectors
from taiji.data.item_text import CategoryPath, category_path

NOTHING = -1
"""The node of no name, of an unknown one, and of items without a category."""

LEVELS = 3
_ROWS = 16_384


@dataclass(frozen=True)
class Categories:
    """Nodes of the tree in the order of their first item, parents before children.

    Attributes:
        paths: Of each node, from the top down, as `plain_name` writes names.
        of_item: (I,) the deepest node of each catalogue row; `NOTHING` if it has no category.
        levels_CL: (C + 1, 3) the node's ancestor at each level, itself included; `NOTHING` below
            it. The last row is that of `NOTHING`.
    """

    paths: tuple[CategoryPath, ...]
    of_item: Ints
    levels_CL: Ints

    @classmethod
    def from_items(cls, items: pa.Table) -> "Categories":
        """Read the category columns of `schema.ITEMS`; its row order is the catalogue order."""
        nodes: dict[CategoryPath, int] = {}
        of_item = np.full(items.num_rows, NOTHING, dtype=np.int64)
        columns = items.select([f"category_l{level}" for level in (1, 2, 3)])
        for row, levels in enumerate(columns.to_pylist()):
            path = category_path(levels)
            for depth in range(1, len(path) + 1):
                of_item[row] = nodes.setdefault(path[:depth], len(nodes))
        levels_CL = np.full((len(nodes) + 1, LEVELS), NOTHING, dtype=np.int64)
        for path, node in nodes.items():
            for depth in range(1, len(path) + 1):
                levels_CL[node, depth - 1] = nodes[path[:depth]]
        return cls(tuple(nodes), of_item, levels_CL)

    @cached_property
    def _nodes(self) -> Mapping[CategoryPath, int]:
        return {path: node for node, path in enumerate(self.paths)}

    def find(self, path: CategoryPath) -> int:
        """The deepest node that a path leads to; `NOTHING` if it names no top level."""
        for depth in range(len(path), 0, -1):
            if path[:depth] in self._nodes:
                return self._nodes[path[:depth]]
        return NOTHING


def matches(categories: Categories, names_MK: Ints, moment_N: Ints, node_N: Ints) -> Vectors:
    """(N, 3): does the item's L1, L2, L3 stand among the names that serve the pair?

    Args:
        categories: The tree.
        names_MK: Nodes; `NOTHING` where a text named fewer than K.
        moment_N: The row of `names_MK` that serves each pair; -1 for pairs without a text.
        node_N: The node of each pair's item.
    """
    padded_MK = np.concatenate([names_MK, np.full((1, names_MK.shape[1]), NOTHING, np.int64)])
    found_NL = np.zeros((node_N.size, LEVELS), dtype=np.float32)
    for level in range(LEVELS):
        named_MK = categories.levels_CL[padded_MK, level]
        wanted_N = categories.levels_CL[node_N, level]
        for begin in range(0, node_N.size, _ROWS):
            rows = slice(begin, begin + _ROWS)
            same = (named_MK[moment_N[rows]] == wanted_N[rows, None]).any(axis=1)
            found_NL[rows, level] = same & (wanted_N[rows] >= 0)
    return found_NL


def deepest_two(categories: Categories, node_N: Ints) -> list[int]:
    """The two deepest levels that the pairs' items have, deepest first: what a stack looks at."""
    known = [level for level in range(LEVELS) if (categories.levels_CL[node_N, level] >= 0).any()]
    return known[::-1][:2]


def path_text(path: Sequence[str]) -> str:
    """A node as words: the path from the deepest level up, as `skim milk in milk in dairy`."""
    return " in ".join(reversed(path))
