import pytest

from taiji.reasoning.leakage import copied_share, find_leak, find_phrase, phrases_apply
from taiji.templates import CHINESE, ENGLISH

TITLE = "National brand yogurt not multi-packs 6 oz"
HISTORY = ["Private label white bread 20 oz; Grocery; Bread; White bread; 0.99 USD; 2 days before"]


@pytest.mark.parametrize(
    ("cot", "rule"),
    [
        ("Since I was told what comes next, it must be dairy.", "told"),
        ("We are given a purchase of dairy.", "told"),
        ("Dairy, because the true next item is dairy.", "answer"),
        ("The correct answer fits the history.", "answer"),
        ("As stated above, dairy follows.", "given"),
        ("Given that the next item is dairy, habits matter.", "given"),
        ("The ground-truth purchase is dairy.", "ground truth"),
        ("The target item is dairy.", "ground truth"),
        ("We already know they will choose dairy.", "known"),
        ("In hindsight, dairy was due.", "hindsight"),
        ("The shopper actually bought dairy.", "hindsight"),
        ("The prompt says dairy.", "task"),
        ("The user went on to buy dairy.", "hindsight"),
        ("That led the shopper to buy dairy.", "hindsight"),
        ("So the next purchase was dairy.", "hindsight"),
        ("It must be the item below.", "given"),
        ("The reasoning must lead to dairy.", "task"),
    ],
)
def test_phrases_that_reveal_the_answer_are_found(cot, rule):
    assert find_phrase(cot) == rule


@pytest.mark.parametrize(
    "cot",
    [
        "Bread is bought every week, so the next item is likely from the bakery.",
        "The shopper knows what they want; yogurt not multi-packs is a likely kind.",
        "A given household needs milk, and the right size matters.",
        "I expect a national brand, as before.",
        "Coupons led this household to stock up before, and milk made up most of the list.",
    ],
)
def test_forward_reasoning_passes(cot):
    assert find_phrase(cot, ENGLISH.teacher_task) is None
    assert copied_share(cot, TITLE, HISTORY) < 0.8


def test_an_echo_of_the_instruction_speaks_of_the_task():
    echo = "Let us reason from the profile and the purchases to the kind of item that fits."
    assert find_phrase(echo) is None
    assert find_phrase(echo, ENGLISH.teacher_task) == "task"
    assert (
        find_phrase("只使用列出的事实。请顺着推理，就像并不知道结果", CHINESE.teacher_task)
        == "task"
    )


def test_a_copied_title_is_found_whatever_its_case_and_punctuation():
    cot = "So it will be NATIONAL BRAND Yogurt, not multi packs - 6 oz."
    assert copied_share(cot, TITLE, HISTORY) == 1.0


def test_most_of_a_title_is_a_copy_too():
    assert copied_share("Next: brand yogurt not multi-packs 6 oz.", TITLE, HISTORY) == 7 / 8
    # "yogurt not multi-packs": four of eight words
    assert copied_share("So yogurt not multi-packs is due.", TITLE, HISTORY) == 4 / 8


def test_a_title_may_be_quoted_from_the_history():
    cot = f"They took {TITLE} before and will again."
    assert copied_share(cot, TITLE, [*HISTORY, f"{TITLE}; Grocery; Yogurt; Cups"]) == 0


def test_a_title_of_one_word_is_a_kind_and_may_be_named():
    assert copied_share("Fruit is due, so bananas.", "Bananas", []) == 0


def test_support_for_a_part_does_not_excuse_the_rest():
    assert copied_share(f"So {TITLE}.", TITLE, ["National brand yogurt; Dairy"]) == 1.0


@pytest.mark.parametrize(
    ("phrase", "copied", "boilerplate", "kind"),
    [
        ("told", 1.0, 1.0, "phrase"),
        (None, 0.8, 1.0, "title"),
        (None, 0.79, 0.8, "boilerplate"),
        (None, 0.79, 0.79, None),
    ],
)
def test_the_first_kind_of_leak_is_named(phrase, copied, boilerplate, kind):
    assert find_leak(phrase, copied, boilerplate) == kind


@pytest.mark.parametrize(
    ("cot", "known"),
    [
        ("So the next item is likely to be found in dairy.", True),
        ("用户常买乳制品，家里牛奶可能快喝完了。", True),
        ("用户常买 Apple 产品，可能需要 iPhone 保护壳。", True),
        ("Da oft Milch gekauft wird, fehlt bald wieder welche.", False),
        ("このお客様は牛乳をよく買うので、次も牛乳でしょう。", False),
        ("ลูกค้าซื้อนมบ่อย", False),
        ("Eggs; Eggs - large; Permanent 18-oz", False),
    ],
)
def test_it_is_known_which_chains_no_phrase_can_judge(cot, known):
    assert phrases_apply(cot) == known


@pytest.mark.parametrize(
    ("title", "cot"),
    [
        ("Frische Vollmilch 3.8 Prozent Fett", "Also: frische Vollmilch 3.8 Prozent Fett."),
        ("นมสดพาสเจอร์ไรส์", "ดังนั้น นมสดพาสเจอร์ไรส์"),
        ("おいしい牛乳", "次はおいしい牛乳です。"),
        ("서울 우유 1리터", "다음은 서울 우유 1리터"),
        ("Свежее молоко 1 литр", "Значит, свежее молоко 1 литр."),
    ],
)
def test_a_copied_title_is_found_in_any_language(title, cot):
    assert copied_share(cot, title, []) == 1.0
    assert copied_share(cot, title, [f"1. {title}; x"]) == 0


@pytest.mark.parametrize(
    ("cot", "rule"),
    [
        ("我已被告知答案，是牛奶。", "told"),
        ("正确答案是牛奶。", "answer"),
        ("目标商品是牛奶。", "answer"),
        ("我们已经知道用户要牛奶。", "known"),
        ("用户最终购买了牛奶。", "hindsight"),
        ("题目要求推理到牛奶。", "task"),
        ("如上文所示的商品是牛奶。", "given"),
        ("接下来就买了牛奶。", "hindsight"),
        ("这促使用户购买了牛奶。", "hindsight"),
        ("所以蒙牛纯牛奶250毫升很合适。", "title"),
        ("用户常买乳制品，家里牛奶可能快喝完了。", None),
        ("用户偏爱蒙牛，接下来可能需要纯牛奶。", None),
    ],
)
def test_chinese_chains_are_guarded_too(cot, rule):
    copied = copied_share(cot, "蒙牛纯牛奶250毫升", ["面包; 烘焙; 9.90元; 2天前"])
    phrase = find_phrase(cot, CHINESE.teacher_task)
    assert (phrase or ("title" if copied >= 0.8 else None)) == rule


def test_a_chinese_title_may_be_quoted_from_the_history():
    title = "蒙牛纯牛奶250毫升"
    assert copied_share(f"用户买过{title}。", title, [f"{title}; 乳制品; 3天前"]) == 0
