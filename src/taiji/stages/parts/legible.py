"""Whether the models of a recipe can read the titles of its log: asked before any work of theirs.

Titles in Latin letters cost no model: only others have the encoder and the tokenizer loaded.
"""

from collections.abc import Iterator, Sequence

from taiji.config import Recipe
from taiji.data.problems import Problem
from taiji.language.legibility import BLIND, FOREIGN, MOST_TOKENS, Legibility, foreign_share

_MOST_LOOKED_AT = 2000


def read_titles(recipe: Recipe, titles: Sequence[str]) -> Legibility | None:
    """How the recipe's models read titles; None where their letters are Latin.

    Raises:
        EngineError: A model cannot be loaded.
    """
    looked_at = titles[:: max(1, len(titles) // _MOST_LOOKED_AT)]
    if foreign_share(looked_at) < FOREIGN:
        return None
    from taiji.language.encode import SentenceEncoder  # takes seconds
    from taiji.language.legibility import legibility
    from taiji.language.models import load_tokenizer

    encoder = SentenceEncoder(recipe.encoder.model, recipe.encoder.batch_size)
    tokenizer = load_tokenizer(recipe.student.model)
    return legibility(
        looked_at,
        encoder.encode,
        lambda text: len(tokenizer.encode(text, add_special_tokens=False)),
        seed=recipe.seed,
    )


def unreadable_titles(recipe: Recipe, found: Legibility | None) -> Iterator[Problem]:
    """What a person should know: titles that are all one to the encoder cannot work."""
    if found is None:
        return
    floor = recipe.align.rewards.cosine_floor
    cosine, where = found.median_cosine, f"encoder.model={recipe.encoder.model}"
    mend = "choose a model of many languages, such as paraphrase-multilingual-MiniLM-L12-v2"
    if cosine >= min(BLIND, floor):
        blind = cosine >= BLIND
        what = f"two random titles have a cosine of {cosine:.3f}: " + (
            "to this encoder they are all the same"
            if blind
            else f"over align.rewards.cosine_floor={floor:g}, so any answer names some item"
        )
        yield Problem("E117" if blind else "W221", where, what, mend, fatal=blind)
    if found.tokens_a_character >= MOST_TOKENS:
        what = f"a title takes {found.tokens_a_character:.1f} tokens a character"
        student = f"student.model={recipe.student.model}"
        told = "it spells this script: choose a student that knows it, or larger budgets"
        yield Problem("W222", student, what, told, fatal=False)
