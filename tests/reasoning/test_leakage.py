import pytest

from taiji.reasoning.leakage import boilerplate, find_leak

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
    ],
)
def test_phrases_that_reveal_the_answer_are_found(cot, rule):
    assert find_leak(cot, TITLE, HISTORY) == rule


@pytest.mark.parametrize(
    "cot",
    [
        "Bread is bought every week, so the next item is likely from the bakery.",
        "The shopper knows what they want; yogurt not multi-packs is a likely kind.",
        "A given household needs milk, and the right size matters.",
        "I expect a national brand, as before.",
    ],
)
def test_forward_reasoning_passes(cot):
    assert find_leak(cot, TITLE, HISTORY) is None


def test_a_copied_title_is_found_whatever_its_case_and_punctuation():
    cot = "So it will be NATIONAL BRAND Yogurt, not multi packs - 6 oz."
    assert find_leak(cot, TITLE, HISTORY) == "title"


def test_most_of_a_title_is_a_copy_too():
    assert find_leak("Next: brand yogurt not multi-packs 6 oz.", TITLE, HISTORY) == "title"


def test_a_title_may_be_quoted_from_the_history():
    cot = f"They took {TITLE} before and will again."
    assert find_leak(cot, TITLE, [*HISTORY, f"{TITLE}; Grocery; Yogurt; Cups"]) is None


def test_a_title_of_one_word_is_a_kind_and_may_be_named():
    assert find_leak("Fruit is due, so bananas.", "Bananas", []) is None


def test_boilerplate_counts_runs_of_words_across_chains():
    same = "this shopper has a clear habit that everybody seems to share today"
    chains = [f"{same} number {name}" for name in ("one", "two", "three")] + ["quite different"]
    found = boilerplate(chains, num_words=8, share=0.5)
    assert found["this shopper has a clear habit that everybody"] == 0.75
    assert not any("different" in run for run in found)


def test_boilerplate_of_different_chains_is_empty():
    assert boilerplate(["a b c d e f g h i j k", "l m n o p q r s t u v"]) == {}
    assert boilerplate([]) == {}


@pytest.mark.parametrize(
    ("cot", "rule"),
    [
        ("我已被告知答案，是牛奶。", "told"),
        ("正确答案是牛奶。", "answer"),
        ("目标商品是牛奶。", "answer"),
        ("我们已经知道用户要牛奶。", "known"),
        ("用户最终购买了牛奶。", "hindsight"),
        ("题目要求推理到牛奶。", "task"),
        ("所以蒙牛纯牛奶250毫升很合适。", "title"),
        ("用户常买乳制品，家里牛奶可能快喝完了。", None),
        ("用户偏爱蒙牛，接下来可能需要纯牛奶。", None),
    ],
)
def test_chinese_chains_are_guarded_too(cot, rule):
    assert find_leak(cot, "蒙牛纯牛奶250毫升", ["面包; 烘焙; 9.90元; 2天前"]) == rule


def test_a_chinese_title_may_be_quoted_from_the_history():
    title = "蒙牛纯牛奶250毫升"
    assert find_leak(f"用户买过{title}。", title, [f"{title}; 乳制品; 3天前"]) is None
