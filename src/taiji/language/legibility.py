"""Can the encoder and the student read the titles at all?

An encoder that knows no Hangul gives every Korean title the same vector: then any text is close to
any item, and grounding, the semantic reward, codes and neighbours say nothing. A tokenizer that
does not know a script spells it byte by byte, so that prompts are cut. Both show on a few titles.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import regex

from taiji.arrays import Vectors

FOREIGN = 0.1
"""Titles whose letters are Latin but for such a share are taken to be readable."""

BLIND = 0.98
"""Two random titles with a median cosine from here on are the same to an encoder."""

MOST_TOKENS = 1.0
"""Tokens a character from which on a tokenizer spells instead of reading."""

_MOST_TITLES = 400

_LETTER, _LATIN = regex.compile(r"\p{L}"), regex.compile(r"\p{Latin}")


@dataclass(frozen=True)
class Legibility:
    """How a model pair reads some titles.

    Attributes:
        median_cosine: Between two titles drawn at random.
        tokens_a_character: Of the student's tokenizer; English has about 0.25.
    """

    median_cosine: float
    tokens_a_character: float


def foreign_share(titles: Sequence[str]) -> float:
    """Share of the letters of some titles that are not Latin."""
    letters = sum(len(_LETTER.findall(title)) for title in titles)
    return 1 - sum(len(_LATIN.findall(title)) for title in titles) / letters if letters else 0.0


def legibility(
    titles: Sequence[str],
    encode: Callable[[Sequence[str]], Vectors],
    count_tokens: Callable[[str], int],
    *,
    seed: int = 0,
) -> Legibility | None:
    """How titles are read; None where there are not two that differ.

    Args:
        titles: Of the catalogue.
        encode: Texts -> unit vectors.
        count_tokens: Of a text, by the student's tokenizer.
        seed: Draws the titles.
    """
    distinct = sorted(set(titles))
    if len(distinct) < 2:
        return None
    order = np.random.default_rng(seed).permutation(len(distinct))[:_MOST_TITLES]
    drawn = [distinct[place] for place in order]
    vectors_ND = encode(drawn)
    cosine_N = (vectors_ND * np.roll(vectors_ND, 1, axis=0)).sum(axis=1)
    num_tokens = sum(count_tokens(title) for title in drawn)
    return Legibility(float(np.median(cosine_N)), num_tokens / sum(map(len, drawn)))
