"""The leakage guard: chains that betray that the answer was known when they were written.

RUPR shows the true next item to the teacher. A chain that says so, or that copies the item's
title out of thin air, would teach the student a step that it can never make itself; and it
gets a flattering perplexity, because the answer stands in it.
"""

import re
from collections import Counter
from collections.abc import Sequence

_PHRASES = {
    "told": r"\b(?:i|we|you) (?:am|are|was|were|have been|had been)"
    r" (?:told|given|shown|informed|asked)\b",
    "answer": r"\b(?:the|this|that|its|your) (?:true|correct|actual|given|provided)"
    r" (?:next )?(?:answer|item|purchase|product|choice|target)\b",
    "given": r"\bas (?:given|provided|stated|mentioned|indicated|specified|shown) (?:in|by|above)\b"
    r"|\bgiven (?:that )?the (?:answer|target|next (?:item|purchase|product))\b",
    "ground truth": r"\bground[- ]truth\b|\btarget (?:item|product|purchase|title)\b",
    "known": r"\b(?:i|we) (?:already )?know (?:that )?(?:the|they|he|she|this)\b",
    "hindsight": r"\b(?:in hindsight|in reality|turned out to)\b"
    r"|\bended up (?:buying|choosing|purchasing)\b"
    r"|\b(?:actually|indeed) (?:bought|purchased|chose|picked)\b",
    "task": r"\b(?:the (?:prompt|instruction|task|question) (?:says|states|asks|gives|tells))\b",
}
_RULES = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _PHRASES.items()}
_WORD = re.compile(r"[^\W_]+(?:\.\d+)?")
_COPIED_SHARE = 0.8  # of the title's words in a row make a copy
_MIN_COPIED_WORDS = 2  # a one-word title is the name of a kind, and a chain may name kinds


def find_leak(cot: str, target_title: str, history_texts: Sequence[str]) -> str | None:
    """Name the first rule that the chain breaks, or None.

    Args:
        cot: The chain of thought.
        target_title: The true next item's title.
        history_texts: The lines that the prompt shows. A title that stands there may be quoted.

    Returns:
        `told`, `answer`, `given`, `ground truth`, `known`, `hindsight` or `task` for a phrase
        that reveals the answer was given; `title` for at least four fifths of the target's
        title, word after word, that no history line holds.
    """
    for name, pattern in _RULES.items():
        if pattern.search(cot):
            return name
    title = _words(target_title)
    length = max(_MIN_COPIED_WORDS, -(-len(title) * 4 // 5))
    shown = [_spaced(_words(text)) for text in history_texts]
    chain = _spaced(_words(cot))
    for start in range(len(title) - length + 1):
        run = _spaced(title[start : start + length])
        if run in chain and not any(run in line for line in shown):
            return "title"
    return None


def boilerplate(
    chains: Sequence[str], *, num_words: int = 10, share: float = 0.2
) -> dict[str, float]:
    """Word runs that recur across chains, each with the share of chains that hold it.

    A teacher that says the same to everybody teaches the student to say it too. This is a
    report, not a filter: pass one chain per user.

    Args:
        chains: Chains of thought of different users.
        num_words: Length of a run.
        share: Smallest share of chains to report.

    Returns:
        Most frequent first; empty when nothing recurs that often.
    """
    counts: Counter[str] = Counter()
    for chain in chains:
        words = _words(chain)
        runs = {" ".join(words[i : i + num_words]) for i in range(len(words) - num_words + 1)}
        counts.update(runs)
    return {
        run: count / len(chains)
        for run, count in counts.most_common()
        if count > 1 and count / len(chains) >= share
    }


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _spaced(words: Sequence[str]) -> str:
    return f" {' '.join(words)} "
