"""Boilerplate: what a teacher tells to many users alike, whatever they did.

Shape suffixes: N chains, P of them of one kind, M words of these, R runs of words.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from taiji.arrays import Array, Flags, Ints
from taiji.reasoning.leakage import is_unspaced, words

Hashes = NDArray[np.uint64]

_RUN_WORDS, _QUOTE_WORDS = 6, 2  # twice as many where a character counts as a word
_MIN_USERS, _MIN_SHARE = 3, 0.01  # a run that so many users are told is common
_MAX_RUNS = 2**25  # beyond it every s-th run is looked at, chosen by its hash


def shares_told_to_others(told: Iterable[tuple[str, str, str]]) -> Array:
    """Which share of each chain is boilerplate: runs of words that many users are told.

    A run of six words counts if the chains of at least three users, and of one in a hundred,
    hold it, and if it quotes nothing, not two words in a row, of what its own prompt says. So
    fixed phrasings around the user's own facts pass, and fixed phrasings alone do not.

    Args:
        told: N chains of thought, each with the user whom it is about and the prompt, profile and
            history, that it argues from; the chains of one prompt stand together. Of each chain
            the numbers of its words are kept.

    Returns:
        (N,), from 0 to 1; 0 for a chain without words.
    """
    vocabulary: dict[str, int] = {}
    codes: dict[str, int] = {}
    users = array("q")
    spaced, unspaced = _Texts(1), _Texts(2)
    for number, (text, user_id, prompt) in enumerate(told):
        users.append(codes.setdefault(user_id, len(codes)))
        text_words = words(text)
        is_long = 2 * sum(map(is_unspaced, text_words)) > len(text_words)
        ids = [vocabulary.setdefault(word, len(vocabulary) + 1) for word in text_words]
        (unspaced if is_long else spaced).add(number, text_words, ids, prompt)
    users_N = np.frombuffer(users, dtype=np.int64)
    least = max(_MIN_USERS, int(np.ceil(_MIN_SHARE * len(codes))))
    shares_N = np.zeros(len(users))
    for part in (spaced, unspaced):
        numbers = np.frombuffer(part.numbers, dtype=np.int64)
        runs_R, owners_R, free_R = part.runs()
        common_R = _num_users(runs_R, users_N[numbers[owners_R]]) >= least
        told_P = np.bincount(owners_R, weights=common_R & free_R, minlength=numbers.size)
        shares_N[numbers] = told_P / np.maximum(np.bincount(owners_R, minlength=numbers.size), 1)
    return shares_N


class _Texts:
    """Texts as numbers of their words, a text shorter than a run filled up with zeros.

    Args:
        factor: How many times more words a run has than where a word is a word.
    """

    def __init__(self, factor: int) -> None:
        self.numbers = array("q")  # of the chains
        self._length, self._quote = factor * _RUN_WORDS, factor * _QUOTE_WORDS
        self._sizes, self._ids, self._quoted = array("q"), array("Q"), array("b")
        self._last, self._known = "", set[tuple[str, ...]]()

    def add(self, number: int, text: Sequence[str], ids: Sequence[int], prompt: str) -> None:
        """Take one more."""
        pad = self._length - len(ids) if 0 < len(ids) < self._length else 0
        self.numbers.append(number)
        self._sizes.append(len(ids) + pad)
        self._ids.extend([*ids, *[0] * pad])
        self._quoted.extend([*self._quotes(text, prompt), *[False] * pad])

    def runs(self) -> tuple[Hashes, Ints, Flags]:
        """Hashes of all runs of words, the text of each, and whether it is free of quotes."""
        length = self._length
        ids_M = np.frombuffer(self._ids, dtype=np.uint64)
        quoted_M = np.append(0, np.cumsum(np.frombuffer(self._quoted, np.int8), dtype=np.int64))
        owners_M = np.repeat(np.arange(len(self.numbers)), np.frombuffer(self._sizes, np.int64))
        num_runs = max(0, len(ids_M) - length + 1)
        runs_R = np.zeros(num_runs, dtype=np.uint64)
        for offset in range(length):
            runs_R = _mixed(runs_R + ids_M[offset : offset + num_runs])
        free_R = quoted_M[length - 1 : length - 1 + num_runs] == quoted_M[:num_runs]
        owners_R = owners_M[:num_runs]
        stride = np.uint64(1 + num_runs // _MAX_RUNS)
        chosen = (owners_R == owners_M[length - 1 :]) & (runs_R % stride == 0)
        return runs_R[chosen], owners_R[chosen], free_R[chosen]

    def _quotes(self, text: Sequence[str], prompt: str) -> Iterator[bool]:
        """For each word whether so many words from it on stand in the prompt so."""
        if prompt != self._last:  # the chains of one prompt stand together
            self._last, self._known = prompt, set(_grams(words(prompt), self._quote))
        found = [gram in self._known for gram in _grams(text, self._quote)]
        return iter([*found, *[False] * (len(text) - len(found))])


def _grams(text: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(text[offset:] for offset in range(length)), strict=False)


def _mixed(values: Hashes) -> Hashes:
    """Scatter bits (the finaliser of SplitMix64), so that a run's hash depends on its order."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _num_users(runs_R: Hashes, users_R: Ints) -> Ints:
    """How many users are told each run."""
    order = np.lexsort((users_R, runs_R))
    runs, users = runs_R[order], users_R[order]
    new_run = np.append(True, runs[1:] != runs[:-1])[: len(runs)]
    new_user = new_run | np.append(True, users[1:] != users[:-1])[: len(runs)]
    which_R = np.cumsum(new_run) - 1
    counts = np.bincount(which_R, weights=new_user, minlength=1)
    found_R = np.empty(len(runs), dtype=np.int64)
    found_R[order] = counts[which_R]
    return found_R
