"""The leakage guard: chains that betray that the answer was known, or that know nobody.

RUPR shows the true next item to the teacher. A chain that says so (`phrase`), or that copies
the item's title out of thin air (`title`), would teach the student a step that it can never
make itself; and it gets a flattering perplexity, because the answer stands in it. A chain that
is told to many users alike (`boilerplate`) teaches to say it to everybody.

Titles and runs of words are compared in any language. Phrases are known in English and Chinese;
`phrases_apply` says which chains they cannot judge, so that nobody takes silence for innocence.
"""

import re
from collections.abc import Sequence
from typing import Literal

Leak = Literal["phrase", "title", "boilerplate"]

_PHRASES = {
    "told": r"\b(?:i|we|you) (?:am|are|was|were|have been|had been)"
    r" (?:told|given|shown|informed|asked)\b",
    "answer": r"\b(?:the|this|that|its|your) (?:true|correct|actual|given|provided|known)"
    r" (?:next )?(?:answer|item|purchase|product|choice|target)\b",
    "given": r"\bas (?:given|provided|stated|mentioned|indicated|specified|shown) (?:in|by|above"
    r"|below)\b|\bgiven (?:that )?the (?:answer|target|next (?:item|purchase|product))\b"
    r"|\b(?:answer|item|product|purchase) (?:(?:given|shown|stated|listed|mentioned) )?"
    r"(?:above|below)\b",
    "ground truth": r"\bground[- ]truth\b|\btarget (?:item|product|purchase|title)\b",
    "known": r"\b(?:i|we) (?:already )?know (?:that )?(?:the|they|he|she|this)\b",
    "hindsight": r"\b(?:in hindsight|in reality|turned out to)\b"
    r"|\b(?:ended up|went on to) (?:buy|choos|purchas|pick|select)\w*\b"
    r"|\b(?:actually|indeed|eventually|finally) (?:bought|purchased|chose|picked|selected)\b"
    r"|\b(?:led|prompted|drove|made) (?:them|him|her|this \w+|the \w+) (?:to )?"
    r"(?:buy|purchase|choose|pick|select)\b"
    r"|\bnext (?:purchase|item|product|choice) (?:was|turned)\b",
    "task": r"\b(?:the (?:prompt|instruction|task|question) (?:says|states|asks|gives|tells))\b"
    r"|\bthe reasoning (?:must|should|has to|needs to) lead\b",
}
_CHINESE_PHRASES = {
    "told": r"(?:已经?|被)(?:告知|告诉|给出|提供)|(?:告诉|提供给|展示给)(?:了?我|我们)",
    "answer": r"(?:正确|真实|给定|所给|给出|目标|已知)的?(?:答案|商品|结果)",
    "given": r"(?:上|下|前)(?:文|面|述|列)(?:所述|所示|给出|提到)?的?(?:答案|商品|结果)",
    "ground truth": r"目标(?:商品|标题)|真实标签|标准答案",
    "known": r"(?:我|我们)?已经?知道(?:了)?(?:答案|结果|用户|他|她)",
    "hindsight": r"事后|(?:最终|最后|实际上?|果然|的确|确实)(?:购买|买了|买下|选择|选了|下单)"
    r"|(?:接下来|随后|之后|下一步)(?:就|便|又)?(?:购买了|买了|买下|选择了|选了|下单了)"
    r"|(?:促使|导致)(?:该|这位)?(?:用户|顾客|他|她)(?:购买|买|选择|下单)了",
    "task": r"(?:题目|提示词|指令|任务)(?:要求|说|中|里|给)",
}
_RULES = [
    (name, re.compile(pattern, re.IGNORECASE))
    for phrases in (_PHRASES, _CHINESE_PHRASES)
    for name, pattern in phrases.items()
]
# Scripts without spaces between words: there each character counts as one.
_UNSPACED = (
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Chinese and Japanese
    "\u0e01-\u0e2e\u0e81-\u0eae\u1000-\u102a\u1780-\u17b3"  # letters of Thai, Lao, Burmese, Khmer
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+(?:\.\d+)?")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_KANA = re.compile("[\u3040-\u30ff]")
_ENGLISH = re.compile(
    r"\b(?:the|of|and|to|is|are|for|that|this|with|from|has|have|they|their|which|it|be|been|by|as"
    r"|or|but|not|there|since|because|would|will|should|likely|next|hence|within|under|something)"
    r"\b",
    re.IGNORECASE,
)
_COPIED_SHARE = 0.8  # of the title's words in a row make a copy
_MIN_COPIED_WORDS = 2  # a one-word title is the name of a kind, and a chain may name kinds
_BOILERPLATE_SHARE = 0.8  # of a chain's runs of words, told to others too
_ECHO_WORDS = 8  # in a row from the instruction are no reasoning


def find_leak(phrase: str | None, copied_title: float, boilerplate: float) -> Leak | None:
    """The first kind of leak that the scores of a chain amount to, or None.

    Args:
        phrase: From `find_phrase`.
        copied_title: From `copied_share`; 0 where the teacher was not shown the title.
        boilerplate: From `boilerplate.shares_told_to_others`.
    """
    if phrase is not None:
        return "phrase"
    if copied_title >= _COPIED_SHARE:
        return "title"
    return "boilerplate" if boilerplate >= _BOILERPLATE_SHARE else None


def find_phrase(cot: str, instruction: str = "") -> str | None:
    """Name the first kind of phrase that reveals that the answer was given, or None.

    Args:
        cot: The chain of thought.
        instruction: What the teacher was asked; a chain that repeats eight words of it in a row
            speaks of the task.

    Returns:
        `told`, `answer`, `given`, `ground truth`, `known`, `hindsight` or `task`.
    """
    for name, pattern in _RULES:
        if pattern.search(cot):
            return name
    asked, chain = words(instruction), spaced(words(cot))
    length = _ECHO_WORDS * (2 if _HAN.search(instruction) else 1)
    echoes = (spaced(asked[i : i + length]) for i in range(len(asked) - length + 1))
    return "task" if any(echo in chain for echo in echoes) else None


def phrases_apply(cot: str) -> bool:
    """Whether a chain is in a language whose phrases are known: English or Chinese."""
    han, kana = len(_HAN.findall(cot)), len(_KANA.findall(cot))
    num_words = len(words(cot))
    if han + kana > num_words / 3:
        return kana < han / 10
    return len(_ENGLISH.findall(cot)) >= max(2, num_words / 20)


def copied_share(cot: str, target_title: str, history_texts: Sequence[str]) -> float:
    """How much of the target's title a chain copies without support.

    Args:
        cot: The chain of thought.
        target_title: The true next item's title.
        history_texts: The lines that the prompt shows, and whatever else may be said. What
            stands there may be quoted.

    Returns:
        The longest run of the title's words that the chain has and no line has, as a share of
        the title; 0 for titles and runs of a single word.
    """
    title, chain = words(target_title), spaced(words(cot))
    shown = [spaced(words(text)) for text in history_texts]
    longest = stop = 0
    for start in range(len(title)):
        stop = max(stop, start)
        while stop < len(title) and spaced(title[start : stop + 1]) in chain:
            stop += 1
        run = spaced(title[start:stop])
        if stop - start > longest and not any(run in line for line in shown):
            longest = stop - start
    return longest / len(title) if longest >= _MIN_COPIED_WORDS else 0.0


def words(text: str) -> list[str]:
    """The words of a text, without case and punctuation."""
    return _WORD.findall(text.casefold())


def spaced(run: Sequence[str]) -> str:
    """Words as one string in which whole words alone can be found."""
    return f" {' '.join(run)} "


def is_unspaced(word: str) -> bool:
    """Whether a word is a character of a script without spaces."""
    return len(word) == 1 and re.match(f"[{_UNSPACED}]", word) is not None
