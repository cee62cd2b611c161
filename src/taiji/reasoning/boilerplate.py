"""Boilerplate: what a teacher tells to many users alike, whatever they did.

Shape suffixes: N chains, M words of all chains, R runs of words.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taiji.arrays import Array, Flags, Ints
from taiji.reasoning.leakage import is_unspaced, words

Hashes = NDArray[np.uint64]

_RUN_WORDS, _QUOTE_WORDS = 6, 2  # twice as many where a character counts as a word
_MIN_USERS, _MIN_SHARE = 3, 0.01  # a run that so many users are told is common
_MAX_RUNS = 2**25  # beyond it every s-th run is looked at, chosen by its hash


def shares_told_to_others(
    chains: Sequence[str], user_ids: Sequence[str], prompts: Sequence[str]
) -> Array:
    """Which share of each chain is boilerplate: runs of words that many users are told.

    A run of six words counts if the chains of at least three users, and of one in a hundred,
    hold it, and if it quotes nothing, not two words in a row, of what its own prompt says. So
    fixed phrasings around the user's own facts pass, and fixed phrasings alone do not.

    Args:
        chains: N chains of thought.
        user_ids: Whom each is about.
        prompts: Profile and history that each argues from.

    Returns:
        (N,), from 0 to 1; 0 for a chain without words.
    """
    texts = [words(text) for text in chains]
    vocabulary = {
        word: i for i, word in enumerate(dict.fromkeys(chain.from_iterable(texts)), start=1)
    }
    users_N = np.unique(np.asarray(user_ids, dtype=str), return_inverse=True)[1]
    least = max(_MIN_USERS, int(np.ceil(_MIN_SHARE * len(set(user_ids)))))
    shares_N = np.zeros(len(chains))
    unspaced_N = np.array([2 * sum(map(is_unspaced, text)) > len(text) for text in texts], bool)
    for unspaced, factor in ((False, 1), (True, 2)):
        numbers = np.flatnonzero(unspaced_N == unspaced).tolist()
        part = [texts[number] for number in numbers]
        length = factor * _RUN_WORDS
        quotes = _quotes(part, [prompts[number] for number in numbers], factor * _QUOTE_WORDS)
        ids = [[vocabulary[word] for word in text] for text in part]
        runs_R, owners_R, free_R = _runs(ids, list(quotes), length)
        common_R = _num_users(runs_R, users_N[np.array(numbers, np.int64)[owners_R]]) >= least
        told = np.bincount(owners_R, weights=common_R & free_R, minlength=len(part))
        shares_N[numbers] = told / np.maximum(np.bincount(owners_R, minlength=len(part)), 1)
    return shares_N


def _quotes(
    texts: Sequence[Sequence[str]], prompts: Sequence[str], length: int
) -> Iterator[list[bool]]:
    """For each word of each text whether `length` words from it on stand in the prompt so."""
    last, known = "", set[tuple[str, ...]]()
    for text, prompt in zip(texts, prompts, strict=True):
        if prompt != last:  # the chains of one prompt stand together
            last, known = prompt, set(_grams(words(prompt), length))
        found = [gram in known for gram in _grams(text, length)]
        yield found + [False] * (len(text) - len(found))


def _grams(text: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(text[offset:] for offset in range(length)), strict=False)


def _runs(
    texts: Sequence[Sequence[int]], quotes: Sequence[Sequence[bool]], length: int
) -> tuple[Hashes, Ints, Flags]:
    """Hashes of all runs of words, the text of each, and whether it is free of quotes.

    A text shorter than a run is one run.
    """
    pad = [length - len(text) if 0 < len(text) < length else 0 for text in texts]
    sizes = np.array([len(text) + more for text, more in zip(texts, pad, strict=True)], np.int64)
    ids_M = _joined(texts, pad, np.uint64)
    quoted_M = np.append(0, np.cumsum(_joined(quotes, pad, np.int64)))
    owners_M = np.repeat(np.arange(len(texts)), sizes)
    num_runs = max(0, len(ids_M) - length + 1)
    runs_R = np.zeros(num_runs, dtype=np.uint64)
    for offset in range(length):
        runs_R = _mixed(runs_R + ids_M[offset : offset + num_runs])
    free_R = quoted_M[length - 1 : length - 1 + num_runs] == quoted_M[:num_runs]
    owners_R = owners_M[:num_runs]
    stride = np.uint64(1 + num_runs // _MAX_RUNS)
    chosen = (owners_R == owners_M[length - 1 :]) & (runs_R % stride == 0)
    return runs_R[chosen], owners_R[chosen], free_R[chosen]


def _joined(rows: Sequence[Sequence[int]], pad: Sequence[int], dtype: type) -> NDArray[Any]:
    filled = chain.from_iterable([*row, *[0] * more] for row, more in zip(rows, pad, strict=True))
    return np.fromiter(filled, dtype=dtype)


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
