"""Pairs as one row of columns each, which is what trees split on.

Shape suffixes: N pairs, W columns, K fields, M codes, V width of a vector, L items of a sequence.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from taiji.errors import DataError
from taiji.ranking.as_of import DENSE
from taiji.ranking.inputs import LanguageFeatures, Vocabulary
from taiji.ranking.model import PADDING
from taiji.ranking.pairs import Pairs

_GATHER_ROWS = 16_384
_MATCHES = 3  # columns of a borrowed sequence


def block_widths(language: LanguageFeatures) -> tuple[int, ...]:
    """Of the blocks that an arm sees: codes, values of a code, neighbour items, vector.

    Behind them, where there are such, the columns of a match.
    """
    widths = (
        language.codes.shape[1],
        language.num_codes,
        language.neighbour_items.shape[1],
        language.vectors.shape[1],
    )
    matched = len(language.match_columns)
    return (*widths, matched) if matched else widths


def categorical_columns(
    vocabularies: Mapping[str, Vocabulary], language: LanguageFeatures
) -> list[int]:
    """Which columns hold names: the fields and the codes."""
    return list(range(len(DENSE), len(DENSE) + len(vocabularies) + language.codes.shape[1]))


def tree_columns(
    pairs: Pairs, vocabularies: Mapping[str, Vocabulary], language: LanguageFeatures
) -> NDArray[np.float32]:
    """(N, W): dense, K fields, M codes, matches with the borrowed sequence, V of a vector, match.

    NaN is what is not known: a null, or a feature of users who have none.

    Raises:
        DataError: The pairs lack a field.
    """
    lost = [name for name in vocabularies if name not in pairs.fields]
    if lost:
        raise DataError(f"gradient boosting: no field {', '.join(lost)} here: train it anew")
    user_N = language.rows(pairs.user_ids, pairs.ts)
    fields = [
        vocabulary.rows(pairs.fields[name].levels)[pairs.fields[name].codes]
        for name, vocabulary in vocabularies.items()
    ]
    names_NK = np.stack(fields, axis=1).astype(np.float32)
    names_NK[names_NK == PADDING] = np.nan
    codes_NM = language.codes[user_N].astype(np.float32)
    codes_NM[codes_NM < 0] = np.nan
    vectors_NV = language.vectors[user_N]
    vectors_NV[user_N < 0] = np.nan
    matches = _matches(pairs, language, user_N) if language.neighbour_items.shape[1] else None
    blocks = [pairs.dense, names_NK, codes_NM, matches, vectors_NV]
    if language.match is not None:
        matched_NF = language.match.columns(user_N, pairs.fields["item"].codes)
        matched_NF[user_N < 0] = np.nan
        blocks.append(matched_NF)
    return np.concatenate([block for block in blocks if block is not None], axis=1)


def _matches(
    pairs: Pairs, language: LanguageFeatures, user_N: NDArray[np.int64]
) -> NDArray[np.float32]:
    """How often the borrowed sequence holds the item and its category, and its length."""
    item_N = pairs.fields["item"].codes
    l3_of_item = np.append(pairs.item_l3, -1)  # an index of -1 is the end of a sequence
    counts_N3 = np.empty((len(pairs), _MATCHES), dtype=np.float32)
    for begin in range(0, len(pairs), _GATHER_ROWS):
        rows = slice(begin, begin + _GATHER_ROWS)
        items_NL = language.neighbour_items[user_N[rows]]
        item, l3 = item_N[rows, None], l3_of_item[item_N[rows], None]
        counts_N3[rows, 0] = (items_NL == item).sum(axis=1)
        counts_N3[rows, 1] = ((l3_of_item[items_NL] == l3) & (l3 >= 0)).sum(axis=1)
        counts_N3[rows, 2] = (items_NL >= 0).sum(axis=1)
    counts_N3[counts_N3[:, 2] == 0] = np.nan
    return counts_N3
