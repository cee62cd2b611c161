"""What is said of purchases, said of whatever a log holds: items read, watched, clicked, liked.

A log has one kind of interaction that its lines take for granted (`data.text.unsaid_kind`). Where
that is no purchase, nobody is a shopper and nothing is bought.
"""

from collections.abc import Mapping
from typing import Literal

from taiji.templates.words import Templates

Language = Literal["en", "zh", "other"]
"""Of our words; those of `other` stand in a file of the user's."""

KINDS: tuple[str, ...] = (
    *("purchase", "view", "click", "like", "save", "comment", "share", "cart", "redeem"),
    *("read", "watch", "listen", "review", "rating", "dislike"),
)
"""Kinds of interaction that every language has a word for."""

# What a user does, and what he or she does: of the kinds whose English word for the past is fixed.
_VERBS: Mapping[str, tuple[str, str]] = {
    "view": ("view", "views"),
    "click": ("click", "clicks"),
    "like": ("like", "likes"),
    "save": ("save", "saves"),
    "comment": ("comment on", "comments on"),
    "share": ("share", "shares"),
    "cart": ("put into the cart", "puts into the cart"),
    "redeem": ("redeem", "redeems"),
    "read": ("read", "reads"),
    "watch": ("watch", "watches"),
    "listen": ("listen to", "listens to"),
    "review": ("review", "reviews"),
    "rating": ("rate", "rates"),
}

_ENGLISH = {
    "student_system": (
        "From a user's profile and the items {past}, reason to the next item they {verb}."
    ),
    "teacher_system": "You explain habits in plain words.",
    "teacher_task": (
        "Write two or three sentences that reason from the profile and the items {past} to the "
        "kind of item that this user {verbs} next. Use only facts from the list. Reason "
        "forward, as if you could not know what comes next: do not quote the item below, do "
        "not say that you were shown it, and write no list and no tags."
    ),
    "direct_task": (
        "Write two or three sentences that reason from the profile and the items {past} to the "
        "item that this user {verbs} next. Use only facts from the list, and write no list and "
        "no tags. Then end with one line that begins with {{answer}} and names the item as "
        "title; level 1; level 2; level 3."
    ),
    "history_heading": "Items {past}, newest first:",
    "no_history": "No items are known.",
    "top_categories": "interested mostly in {{names}}",
    "active_hours": "active mostly on {{days}} {{hours}}",
}

_CHINESE = {
    "student_system": "根据用户的画像和{past}记录，推理出用户接下来要{past}的内容。",
    "student_format": (
        "先在<think></think>内写出推理，再在<answer></answer>内写出下一项内容，"
        "格式为：标题; 一级类目; 二级类目; 三级类目。"
    ),
    "teacher_system": "你用平实的语言解释用户的习惯。",
    "teacher_task": (
        "请用两三句话，从用户画像和{past}记录推理出这位用户接下来会{past}哪一类内容。"
        "只使用列出的事实。请顺着推理，就像并不知道结果：不要引用下面的内容，"
        "不要说你看到过它，不要写列表，也不要写任何标签。"
    ),
    "teacher_target": "推理应当指向的内容：",
    "direct_task": (
        "请用两三句话，从用户画像和{past}记录推理出这位用户接下来会{past}的内容。"
        "只使用列出的事实，不要写列表，也不要写任何标签。"
        "最后另起一行，以{{answer}}开头写出这项内容，格式为：标题; 一级类目; 二级类目; 三级类目。"
    ),
    "history_heading": "{past}记录（由近到远）：",
    "no_history": "暂无{past}记录。",
    "top_categories": "主要{past}{{names}}",
}


def words_of_kind(language: Language, words: Templates, kind: str) -> dict[str, str]:
    """The templates that speak of another kind than purchases; none for purchases.

    Args:
        language: Of the words; those of a file say what they say.
        words: Of that language, for the word of the kind.
        kind: What lines take for granted. One that is not ours is told by its name.
    """
    if kind == "purchase" or language == "other":
        return {}
    past: str = getattr(words, kind) if kind in KINDS else kind.replace("_", " ")
    if language == "zh":
        return {name: text.format(past=past) for name, text in _CHINESE.items()}
    verb, verbs = _VERBS.get(kind, ("choose", "chooses"))
    slots = {"past": past, "verb": verb, "verbs": verbs}
    return {name: text.format(**slots) for name, text in _ENGLISH.items()}


_FORMS: Mapping[str, tuple[tuple[str, tuple[str, str, str]], ...]] = {
    "en": (
        (
            "title; level 1; level 2; level 3",
            ("its title", "title; level 1", "title; level 1; level 2"),
        ),
        (
            "level 1; level 2; level 3; title",
            ("its title", "level 1; title", "level 1; level 2; title"),
        ),
    ),
    "zh": (
        (
            "标题; 一级类目; 二级类目; 三级类目",
            ("标题", "标题; 一级类目", "标题; 一级类目; 二级类目"),
        ),
        (
            "一级类目; 二级类目; 三级类目; 标题",
            ("标题", "一级类目; 标题", "一级类目; 二级类目; 标题"),
        ),
    ),
}
_NAME_A_FORM = ("student_format", "student_format_list", "direct_task")


def words_of_levels(language: Language, words: Templates, levels: int) -> dict[str, str]:
    """The templates that ask for an item, asking for no more levels than the log has."""
    asking: dict[str, str] = {name: getattr(words, name) for name in _NAME_A_FORM}
    if levels >= 3 or language == "other":
        return asking
    for name, text in asking.items():
        for whole, fewer in _FORMS[language]:
            text = text.replace(whole, fewer[levels])
        asking[name] = text
    return asking
