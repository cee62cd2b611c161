"""Which categories a text names: by its answer, by words of its own, or by nearness of meaning.

The three are tried in this order, and the next only where the one before found nothing:

1. answers, a line each, as `title; L1; L2; L3` or `L1; L2; L3; title`, whichever leads deeper; a
   title alone stands for its category if the catalogue has it;
2. names of items' own, deepest categories that stand in the text word for word;
3. the categories nearest to one of its sentences, if the recipe allows it. What is near to
   everybody's sentences is held against a category.

Shape suffixes: U users, S sentences, C category nodes, K names, D dimensions.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from taiji.arrays import Ints, Vectors
from taiji.data.item_text import complete_path, plain_name
from taiji.language.completions import split_answer
from taiji.ranking.categories import NOTHING, Categories, path_text

Encode = Callable[[Sequence[str]], Vectors]

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_WORDS = re.compile(r"\w+")
_ANSWER_OPEN = "<answer>"
_FEWEST_LETTERS = 4
"""A category's name of fewer letters stands in too many texts by chance."""


class NameReader:
    """Reads names of categories out of texts.

    Args:
        items: Columns of `schema.ITEMS`, for the titles.
        categories: The tree of the same items.
    """

    def __init__(self, items: pa.Table, categories: Categories) -> None:
        self._categories = categories
        self._of_title: dict[str, int] = {}
        for title, node in zip(
            items["title"].to_pylist(), categories.of_item.tolist(), strict=True
        ):
            self._of_title.setdefault(plain_name(title), node)
        self._by_words: dict[str, int] = {}
        for node in np.unique(categories.of_item[categories.of_item != NOTHING]).tolist():
            words = " ".join(_WORDS.findall(categories.paths[node][-1]))
            if len(words) >= _FEWEST_LETTERS:
                self._by_words[words] = node

    def read(self, answer: str, text: str) -> list[int]:
        """The nodes that a text names, each once, in its order; none if it names none.

        Args:
            answer: What stands in `<answer>`; empty for free text, and where the tag was never
                closed: then what stands behind it counts.
            text: All of it.
        """
        _, opened, rest = text.rpartition(_ANSWER_OPEN)
        lines = (answer or (rest if opened else "")).splitlines()
        answered = [self._of_line(line) for line in lines if line.strip()]
        named = list(dict.fromkeys(node for node in answered if node != NOTHING))
        return named or self._word_for_word(text)

    def _of_line(self, line: str) -> int:
        """Of both orders, title first and path first, the one that leads deeper."""
        title, *levels = split_answer(line)
        nodes = [self._categories.find(complete_path(p)) for p in (levels, line.split(";")[:3])]
        node = max(nodes, key=self._depth)
        return node if node != NOTHING else self._of_title.get(plain_name(title), NOTHING)

    def _depth(self, node: int) -> int:
        return 0 if node == NOTHING else len(self._categories.paths[node])

    def _word_for_word(self, text: str) -> list[int]:
        words = " ".join(_WORDS.findall(text.casefold()))
        padded = f" {words} "
        found = [
            (padded.find(f" {name} "), node)
            for name, node in self._by_words.items()
            if f" {name} " in padded
        ]
        return [node for _, node in sorted(found)]


def nearest_categories(
    texts: Sequence[str], written_U: Ints, categories: Categories, encode: Encode, count: int
) -> Ints:
    """(U, count): the categories nearest to any sentence of each text, nearest first.

    Only the deepest categories of items are considered. From each cosine the mean over the
    sentences of all texts written by then is taken: a category that is near to everything says
    nothing of anybody.

    Args:
        texts: Of one language.
        written_U: When each was written, in any unit.
        categories: The tree.
        encode: Embeds sentences and paths of categories.
        count: How many to find.
    """
    leaves = np.unique(categories.of_item[categories.of_item != NOTHING])
    sentences = [[part for part in _SENTENCE.split(text) if part.strip()] for text in texts]
    flat = [sentence for parts in sentences for sentence in parts]
    names_UK = np.full((len(texts), count), NOTHING, dtype=np.int64)
    if not (flat and leaves.size):
        return names_UK
    distinct, of_sentence = np.unique(np.array(flat), return_inverse=True)
    leaf_CD = encode([path_text(categories.paths[leaf]) for leaf in leaves])
    cosine_SC = (encode(distinct.tolist()) @ leaf_CD.T)[of_sentence]
    sizes_U = np.array([len(parts) for parts in sentences])
    cosine_SC = cosine_SC - _means_by_then(cosine_SC, np.repeat(written_U, sizes_U))
    for row, own_SC in enumerate(np.split(cosine_SC, np.cumsum(sizes_U)[:-1])):
        if len(own_SC):
            order = np.argsort(-own_SC.max(axis=0), kind="stable")[:count]
            names_UK[row, : order.size] = leaves[order]
    return names_UK


def _means_by_then(cosine_SC: Vectors, written_S: Ints) -> Vectors:
    """(S, C) means over the sentences written at or before each."""
    moments, place_S = np.unique(written_S, return_inverse=True)
    sums = np.zeros((moments.size, cosine_SC.shape[1]))
    np.add.at(sums, place_S, cosine_SC)
    counts = np.cumsum(np.bincount(place_S))
    return (np.cumsum(sums, axis=0) / counts[:, None])[place_S].astype(cosine_SC.dtype)


def as_rows(names: Sequence[Sequence[int]]) -> Ints:
    """(U, K): lists of names side by side, `NOTHING` behind the shorter."""
    width = max((len(one) for one in names), default=0)
    rows_UK = np.full((len(names), max(width, 1)), NOTHING, dtype=np.int64)
    for row, one in enumerate(names):
        rows_UK[row, : len(one)] = one
    return rows_UK
