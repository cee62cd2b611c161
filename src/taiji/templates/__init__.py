"""The words around the data: everything that a prompt says in its own voice.

A template is a string with named gaps, such as `usually pays {low} to {high} {currency}`. English
and Chinese are ours; any other language is one file of templates (`data.text.words`).
"""

from collections.abc import Mapping
from dataclasses import fields, replace

from taiji.templates.by_kind import KINDS, Language, words_of_kind, words_of_levels
from taiji.templates.chinese import CHINESE
from taiji.templates.english import ENGLISH
from taiji.templates.filling import check_template, fill, fill_money, gaps, suggestion
from taiji.templates.words import Templates

__all__ = [
    "CHINESE",
    "ENGLISH",
    "KINDS",
    "Language",
    "Templates",
    "check_template",
    "currency_name",
    "fill",
    "fill_money",
    "gaps",
    "resolve_templates",
    "suggestion",
]

_LANGUAGES: Mapping[Language, Templates] = {"en": ENGLISH, "zh": CHINESE, "other": ENGLISH}

_CHINESE_CURRENCIES = {
    "CNY": "元",
    "EUR": "欧元",
    "GBP": "英镑",
    "HKD": "港元",
    "JPY": "日元",
    "USD": "美元",
}


def resolve_templates(
    language: Language, replaced: Mapping[str, str], *, kind: str = "purchase", levels: int = 3
) -> Templates:
    """The words of a language, with those of a recipe in their places.

    Args:
        language: Which; of `other` every word must be in `replaced`.
        replaced: Words of the recipe, by name.
        kind: Of interaction that lines take for granted: what the prompts speak of.
        levels: Of categories that an answer has.

    Raises:
        ValueError: A name is unknown or missing, or a template has a gap that nothing fills.
    """
    templates = _LANGUAGES[language]
    known = [field.name for field in fields(Templates)]
    for name, text in replaced.items():
        if name not in known:
            raise ValueError(f"no template {name!r}: {suggestion(name, known)}")
        check_template(text, gaps(getattr(ENGLISH, name)), name)
    if language == "other" and (missing := [name for name in known if name not in replaced]):
        raise ValueError(
            f"language: other: no template for {', '.join(missing)}: `taiji config words` prints "
            "all of them in English, to be translated into one file (data.text.words)"
        )
    templates = replace(templates, **words_of_kind(language, templates, kind))
    templates = replace(templates, **words_of_levels(language, templates, levels))
    return replace(templates, **replaced)


def currency_name(language: Language, code: str | None) -> str:
    """How prices name a currency; the code itself where the language has no word here."""
    if code is None:
        return ""
    return _CHINESE_CURRENCIES.get(code, code) if language == "zh" else code
