"""Finds the item of a title by its words alone: the first two rungs of grounding.

Shape suffixes: N items.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from taiji.data.item_text import CategoryPath, category_path, plain_name
from taiji.language.completions import split_answer

_WORD = re.compile(r"\w+")
_TIE = 1e-9  # overlaps that differ by no more than rounding are equal


class TitleIndex:
    """An inverted index of the words of titles.

    Words count by their rarity, log(1 + N / number of titles with the word), so that `oz` or a
    house brand, which half of a shop's titles share, say little.

    Args:
        rows: Items as rows of `schema.ITEMS`.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._ids = [row["item_id"] for row in rows]
        self._paths = [category_path(row) for row in rows]
        self._by_title: dict[str, list[int]] = defaultdict(list)
        postings: dict[str, list[int]] = defaultdict(list)
        words = []
        for index, row in enumerate(rows):
            title = plain_name(row["title"])
            self._by_title[title].append(index)
            words.append(sorted(set(_WORD.findall(title))))
            for word in words[-1]:
                postings[word].append(index)
        self._postings = {word: np.array(found, np.int32) for word, found in postings.items()}
        self._weight_N = np.array([sum(map(self._rarity, one)) for one in words])

    def exact(self, answer: str) -> str | None:
        """The item of this very title, but for case and white space."""
        title, *_ = split_answer(answer)
        homonyms = self._by_title.get(plain_name(title), []) if title else []
        return self._best(homonyms, answer) if homonyms else None

    def overlap(self, answer: str, threshold: float) -> tuple[str, float] | None:
        """The item whose title shares most words with the answer's, and how much it shares.

        The overlap is that of Jaccard, weighted: what both titles say over what either says.

        Args:
            answer: In the form `title; L1; L2; L3`.
            threshold: The smallest overlap that counts, above 0.
        """
        words = sorted(set(_WORD.findall(plain_name(split_answer(answer)[0]))))
        known = [word for word in words if word in self._postings]
        if not known:
            return None
        own = sum(map(self._rarity, words))
        rows = np.concatenate([self._postings[word] for word in known])
        rarity = [self._rarity(word) for word in known]
        shared = np.repeat(rarity, [len(self._postings[word]) for word in known])
        both_N = np.bincount(rows, shared, len(self._ids))
        overlap_N = both_N / (own + self._weight_N - both_N)
        best = float(overlap_N.max())
        if best < threshold - _TIE:
            return None
        ties = np.flatnonzero(overlap_N >= best - _TIE).tolist()
        return self._best(ties, answer), best

    def _rarity(self, word: str) -> float:
        num = len(self._postings[word]) if word in self._postings else 1
        return float(np.log1p(len(self._ids) / num))

    def _best(self, rows: Sequence[int], answer: str) -> str:
        """Among equals the one that shares most of the category, then the smaller id."""
        named = tuple(plain_name(level) for level in split_answer(answer)[1:] if level)
        best = min(rows, key=lambda row: (-_shared(self._paths[row], named), self._ids[row]))
        return str(self._ids[best])


def _shared(path: CategoryPath, named: CategoryPath) -> int:
    return sum(a == b for a, b in zip(path, named, strict=False))
