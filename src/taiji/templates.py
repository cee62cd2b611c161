"""The words around the data: everything that a prompt says in its own voice, in two languages.

A template is a string with named gaps, such as `usually pays {low} to {high} {currency}`. A gap
is a name in braces and nothing else: no attribute, no index, no format, so a template from a
recipe can do nothing but stand there. What goes into a gap is never read as a template again.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

Language = Literal["en", "zh"]

_GAP = re.compile(r"\{([a-z_]+)\}")
_UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Templates:
    """All words of one language. Every field can be replaced in a recipe, one by one."""

    # What the student and the teacher are asked. The tags are control tokens for some models.
    student_system: str
    student_format: str
    student_format_list: str
    teacher_system: str
    teacher_task: str
    teacher_target: str
    direct_task: str
    direct_answer: str
    profile_heading: str
    history_heading: str
    no_history: str
    offer: str

    # The profile: `label: fact, fact. Habit; habit.`
    person: str
    household: str
    device: str
    lifestyle: str
    facts: str
    fact_separator: str
    other_fact: str
    under_age: str
    habit_separator: str
    top_categories: str
    price_band: str
    brands: str
    private_label: str
    active_hours: str
    weekday: str
    weekend: str
    mornings: str
    afternoons: str
    evenings: str
    nights: str
    searches: str
    apps: str
    live_streams: str
    other_events: str
    list_separator: str
    list_last: str
    sentence_end: str
    sentence_separator: str

    # The history: `item; price; kind; age`
    price: str
    purchase: str
    view: str
    click: str
    like: str
    save: str
    comment: str
    share: str
    cart: str
    redeem: str
    other_kind: str
    before: str
    year: str
    years: str
    month: str
    months: str
    week: str
    weeks: str
    day: str
    days: str
    hour: str
    hours: str


ENGLISH = Templates(
    student_system="From a shopper's profile and purchases, reason to the next item they buy.",
    student_format=(
        "Reason inside <think></think>, then write the next item as "
        "title; level 1; level 2; level 3 inside <answer></answer>."
    ),
    student_format_list=(
        "Reason inside <think></think>, then write the {count} likeliest next items inside "
        "<answer></answer>, one a line, likeliest first, as level 1; level 2; level 3; title."
    ),
    teacher_system="You explain shopping habits in plain words.",
    teacher_task=(
        "Write two or three sentences that reason from the profile and the purchases to the "
        "kind of item that this shopper needs next. Use only facts from the list. Reason "
        "forward, as if you could not know what comes next: do not quote the item below, do "
        "not say that you were shown it, and write no list and no tags."
    ),
    teacher_target="Item that the reasoning must lead to:",
    direct_task=(
        "Write two or three sentences that reason from the profile and the purchases to the "
        "item that this shopper buys next. Use only facts from the list, and write no list and "
        "no tags. Then end with one line that begins with {answer} and names the item as "
        "title; level 1; level 2; level 3."
    ),
    direct_answer="Answer:",
    profile_heading="Profile:",
    history_heading="Purchases, newest first:",
    no_history="No purchases are known.",
    offer="On offer: {names}.",
    person="User",
    household="Household",
    device="Device",
    lifestyle="Lifestyle",
    facts="{label}: {facts}",
    fact_separator=", ",
    other_fact="{name}: {value}",
    under_age="under {age}",
    habit_separator="; ",
    top_categories="buys mostly {names}",
    price_band="usually pays {low} to {high} {currency}",
    brands="favours the brands {names}",
    private_label="{share} private label",
    active_hours="shops mostly on {days} {hours}",
    weekday="weekday",
    weekend="weekend",
    mornings="mornings",
    afternoons="afternoons",
    evenings="evenings",
    nights="nights",
    searches="recent searches: {names}",
    apps="active apps: {names}",
    live_streams="live streams: {names}",
    other_events="recent {name}: {names}",
    list_separator=", ",
    list_last=" and ",
    sentence_end=".",
    sentence_separator=" ",
    price="{amount} {currency}",
    purchase="bought",
    view="viewed",
    click="clicked",
    like="liked",
    save="saved",
    comment="commented on",
    share="shared",
    cart="put into the cart",
    redeem="redeemed",
    other_kind="{kind}",
    before="{age} before",
    year="{number} year",
    years="{number} years",
    month="{number} month",
    months="{number} months",
    week="{number} week",
    weeks="{number} weeks",
    day="{number} day",
    days="{number} days",
    hour="{number} hour",
    hours="{number} hours",
)

CHINESE = Templates(
    student_system="根据用户的画像和购买记录，推理出用户接下来要买的商品。",
    student_format=(
        "先在<think></think>内写出推理，再在<answer></answer>内写出下一件商品，"
        "格式为：标题; 一级类目; 二级类目; 三级类目。"
    ),
    student_format_list=(
        "先在<think></think>内写出推理，再在<answer></answer>内写出最可能的{count}件商品，"
        "每行一件，最可能的在前，格式为：一级类目; 二级类目; 三级类目; 标题。"
    ),
    teacher_system="你用平实的语言解释用户的购物习惯。",
    teacher_task=(
        "请用两三句话，从用户画像和购买记录推理出这位用户接下来需要哪一类商品。"
        "只使用列出的事实。请顺着推理，就像并不知道结果：不要引用下面的商品，"
        "不要说你看到过它，不要写列表，也不要写任何标签。"
    ),
    teacher_target="推理应当指向的商品：",
    direct_task=(
        "请用两三句话，从用户画像和购买记录推理出这位用户接下来会买的商品。"
        "只使用列出的事实，不要写列表，也不要写任何标签。"
        "最后另起一行，以{answer}开头写出这件商品，格式为：标题; 一级类目; 二级类目; 三级类目。"
    ),
    direct_answer="答案：",
    profile_heading="用户画像：",
    history_heading="购买记录（由近到远）：",
    no_history="暂无购买记录。",
    offer="在售：{names}。",
    person="用户",
    household="家庭",
    device="设备",
    lifestyle="生活方式",
    facts="{label}：{facts}",
    fact_separator="，",
    other_fact="{name}：{value}",
    under_age="{age}以下",
    habit_separator="；",
    top_categories="主要购买{names}",
    price_band="通常花费{low}到{high}{currency}",
    brands="偏爱品牌{names}",
    private_label="自有品牌占{share}",
    active_hours="多在{days}{hours}活跃",
    weekday="工作日",
    weekend="周末",
    mornings="上午",
    afternoons="下午",
    evenings="晚上",
    nights="深夜",
    searches="最近搜索：{names}",
    apps="常用应用：{names}",
    live_streams="观看直播：{names}",
    other_events="最近{name}：{names}",
    list_separator="、",
    list_last="和",
    sentence_end="。",
    sentence_separator="",
    price="{amount}{currency}",
    purchase="购买",
    view="浏览",
    click="点击",
    like="点赞",
    save="收藏",
    comment="评论",
    share="分享",
    cart="加购",
    redeem="核销",
    other_kind="{kind}",
    before="{age}前",
    year="{number}年",
    years="{number}年",
    month="{number}个月",
    months="{number}个月",
    week="{number}周",
    weeks="{number}周",
    day="{number}天",
    days="{number}天",
    hour="{number}小时",
    hours="{number}小时",
)

_LANGUAGES: Mapping[Language, Templates] = {"en": ENGLISH, "zh": CHINESE}

_CHINESE_CURRENCIES = {
    "CNY": "元",
    "EUR": "欧元",
    "GBP": "英镑",
    "HKD": "港元",
    "JPY": "日元",
    "USD": "美元",
}


def resolve_templates(language: Language, replaced: Mapping[str, str]) -> Templates:
    """The words of a language, with those of a recipe in their places.

    Raises:
        ValueError: A name is unknown, or a template has a gap that nothing fills.
    """
    templates = _LANGUAGES[language]
    known = [field.name for field in fields(Templates)]
    for name, text in replaced.items():
        if name not in known:
            raise ValueError(f"no template {name!r}: {suggestion(name, known)}")
        check_template(text, gaps(getattr(ENGLISH, name)), name)
    return replace(templates, **replaced)


def check_template(text: str, allowed: frozenset[str], name: str) -> None:
    """Refuse a template that could not be filled.

    Raises:
        ValueError: It has a brace that opens no gap, a gap without a filling, lacks all its
            gaps, or holds characters that no prompt should.
    """
    unknown = gaps(text) - allowed
    known = " ".join(f"{{{gap}}}" for gap in sorted(allowed)) or "no gap"
    if unknown or re.search("[{}]", _GAP.sub("", text)):
        raise ValueError(f"template {name}: a brace may only name a gap: it takes {known}")
    if allowed and not gaps(text):
        raise ValueError(f"template {name}: says nothing of the data: it takes {known}")
    if _UNPRINTABLE.search(text):
        raise ValueError(f"template {name}: holds a control character or half a character")


def gaps(text: str) -> frozenset[str]:
    """The names of a template's gaps."""
    return frozenset(_GAP.findall(text))


def fill(text: str, **values: str) -> str:
    """Put values into the gaps of a checked template; a value is never read as a template."""
    return _GAP.sub(lambda gap: values[gap[1]], text)


def currency_name(language: Language, code: str | None) -> str:
    """How prices name a currency; the code itself where the language has no word here."""
    if code is None:
        return ""
    return _CHINESE_CURRENCIES.get(code, code) if language == "zh" else code


def fill_money(text: str, *, currency: str, **values: str) -> str:
    """As `fill`; of a currency that is not known nothing is left, not even the blank before it."""
    known = text if currency else re.sub(r" *\{currency\}", "", text).strip()
    return fill(known, currency=currency, **values)


def suggestion(name: str, known: list[str]) -> str:
    """What the writer of a recipe may have meant."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}"
