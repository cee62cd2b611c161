"""The channel `match`: what a user's text says of the very item that is shown.

Codes and borrowed sequences are the user's alone; to use them a ranking model has to learn which
code goes with which item, from clicks. Here text and item are compared before the model sees them:
does the item's category stand among the named ones, how near are the texts, and, if a run asked
for it, how likely the model finds the category. The industry feeds
such features as a scalar cosine or its histogram (SimTier, arXiv 2407.19467) beside ids; KAR (arXiv
2306.10933) feeds vectors alone, which is the arm `vectors`.

Shape suffixes: U users with a text (a last row stands for the others), N pairs, K names, I items,
C nodes, V width of a vector, F columns.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from taiji.arrays import Flags, Ints, Vectors
from taiji.errors import DataError
from taiji.ranking.categories import LEVELS, NOTHING, Categories, matches

COLUMNS = ("named_l1", "named_l2", "named_l3", "text_cosine", "has_text")
LIKELIHOOD = "likelihood"
"""A last column, of texts for which categories were scored."""

_ROWS = 16_384


@dataclass(frozen=True)
class TextMatch:
    """What is needed to compare any user's text with any item.

    Attributes:
        categories: The tree; its items are the catalogue.
        names: (U + 1, K) nodes that each text names, `NOTHING` beyond them and in the last row.
        texts: (U + 1, V) unit vectors of the texts; zeros in the last row.
        items: (I, V) unit vectors of the items' texts; zeros for items that nobody was shown.
        likelihoods: (U + 1, C) of each node, standardised within a text; zeros in the last row.
            None if they were not asked for.
    """

    categories: Categories
    names: Ints
    texts: Vectors
    items: Vectors
    likelihoods: Vectors | None = None

    def __post_init__(self) -> None:  # noqa: D105
        rows, nodes = len(self.names), len(self.categories.paths)
        if len(self.texts) != rows or self.items.shape[1:] != self.texts.shape[1:]:
            raise DataError(
                f"match: names of {rows} users, vectors of {self.texts.shape} and items of "
                f"{self.items.shape}: rerun `taiji features`"
            )
        if self.names.size and not (self.names.min() >= NOTHING and self.names.max() < nodes):
            raise DataError(f"match: a name is outside of 0..{nodes - 1}: rerun `taiji features`")
        if self.likelihoods is not None and self.likelihoods.shape != (rows, nodes):
            raise DataError(
                f"match: likelihoods of {self.likelihoods.shape}, of {rows} users and {nodes} "
                "categories are needed: rerun `taiji features`"
            )

    @property
    def column_names(self) -> tuple[str, ...]:
        """What the columns are called."""
        return COLUMNS if self.likelihoods is None else (*COLUMNS, LIKELIHOOD)

    def take(self, rows_U: Ints) -> "TextMatch":
        """The same with every user's text that of another; `rows_U` has U + 1 rows."""
        likely = None if self.likelihoods is None else self.likelihoods[rows_U]
        return replace(self, names=self.names[rows_U], texts=self.texts[rows_U], likelihoods=likely)

    def columns(self, user_N: Ints, item_N: NDArray[np.int32]) -> Vectors:
        """(N, F): `column_names` of pairs; all 0 for users without a text.

        Args:
            user_N: Rows of `texts`; -1 for users without.
            item_N: Rows of the catalogue.
        """
        node_N = self.categories.of_item[item_N]
        found_NF = np.zeros((user_N.size, len(self.column_names)), dtype=np.float32)
        found_NF[:, :LEVELS] = matches(self.categories, self.names, user_N, node_N)
        for begin in range(0, user_N.size, _ROWS):
            rows = slice(begin, begin + _ROWS)
            text_NV, item_NV = self.texts[user_N[rows]], self.items[item_N[rows]]
            found_NF[rows, LEVELS] = np.einsum("nv,nv->n", text_NV, item_NV)
        found_NF[:, LEVELS + 1] = self._has_text[user_N]
        if self.likelihoods is not None:
            scored_N = node_N != NOTHING
            found_NF[scored_N, -1] = self.likelihoods[user_N[scored_N], node_N[scored_N]]
        return found_NF

    @cached_property
    def _has_text(self) -> Flags:
        return np.asarray(self.texts.any(axis=1) | (self.names != NOTHING).any(axis=1))
