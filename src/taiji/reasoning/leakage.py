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
_CHINESE_PHRASES = {
    "told": r"(?:已经?|被)(?:告知|告诉|给出|提供)|(?:告诉|提供给|展示给)(?:了?我|我们)",
    "answer": r"(?:正确|真实|给定|给出|目标)的?(?:答案|商品|结果)",
    "ground truth": r"目标(?:商品|标题)|真实标签",
    "known": r"(?:我|我们)?已经?知道(?:了)?(?:答案|结果|用户|他|她)",
    "hindsight": r"事后|(?:最终|最后|实际上?|果然)(?:购买|买了|买下|选择|下单)",
    "task": r"(?:题目|提示词|指令|任务)(?:要求|说|中|里|给)",
}
_RULES = [
    (name, re.compile(pattern, re.IGNORECASE))
    for phrases in (_PHRASES, _CHINESE_PHRASES)
    for name, pattern in phrases.items()
]
# Chinese and Japanese put no spaces between words: there each character counts as one.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+(?:\.\d+)?")
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
    for name, pattern in _RULES:
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
