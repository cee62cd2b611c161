import pytest
from shop import ITEMS, PROFILE, example

from taiji.config import Recipe
from taiji.data.item_text import item_text
from taiji.errors import ConfigError
from taiji.language.prompt import ChatScaffold
from taiji.reasoning.prompts import (
    PromptFitter,
    direct_prompt,
    prompt_fitter,
    prompt_text,
    rupr_prompt,
    split_own_answer,
    student_prompt,
)
from taiji.templates import CHINESE, ENGLISH


@pytest.fixture(scope="module")
def scaffold(whole_smollm2_tokenizer):
    return ChatScaffold(whole_smollm2_tokenizer)


def test_the_student_reads_profile_then_numbered_history_then_format():
    text = prompt_text(student_prompt(example((3, 2, 0.99), (0, 9)), ENGLISH))
    assert text.splitlines() == [
        "Profile:",
        PROFILE,
        "Purchases, newest first:",
        "1. Private label white bread 20 oz; Grocery; Bread; White bread; 0.99 USD; 2 days before",
        "2. Private label yogurt 6 oz; Grocery; Yogurt; Yogurt cups; 1 week before",
        "Reason inside <think></think>, then write the next item as "
        "title; level 1; level 2; level 3 inside <answer></answer>.",
    ]


def test_only_profile_and_history_are_data():
    prompt = student_prompt(example((3, 2)), ENGLISH)
    assert [segment.text for segment in prompt.user if segment.data] == [
        f"{PROFILE}\n",
        "1. Private label white bread 20 oz; Grocery; Bread; White bread; 2 days before\n",
    ]


def test_what_is_missing_is_left_out():
    text = prompt_text(student_prompt(example(profile=""), ENGLISH))
    assert "Profile" not in text
    assert "No purchases are known." in text


def test_our_own_words_are_few(scaffold):
    assert len(scaffold.prompt_ids(student_prompt(example(profile=""), ENGLISH))) <= 70


def test_the_teacher_sees_the_answer_and_the_student_never_does(scaffold):
    row, answer = example((3, 2)), item_text(ITEMS[8])
    assert answer in prompt_text(rupr_prompt(row, answer, ENGLISH))
    student = student_prompt(row, ENGLISH)
    assert not any(ITEMS[8][name] in prompt_text(student) for name in ("title", "category_l2"))


def test_a_prompt_that_fits_loses_nothing(scaffold):
    row = example((3, 2), (0, 9))
    prompt, dropped = PromptFitter(scaffold, 1024, ENGLISH).fit(row)
    assert (prompt, dropped) == (student_prompt(row, ENGLISH), 0)


def test_the_oldest_lines_go_first_and_no_more_than_needed(scaffold):
    row = example(*[(item, item + 1) for item in range(8)])
    sizes = [
        len(scaffold.prompt_ids(student_prompt(row | {"history": row["history"][:n]}, ENGLISH)))
        for n in range(9)
    ]
    for num_lines, size in enumerate(sizes):
        fitter = PromptFitter(scaffold, size, ENGLISH)
        prompt, dropped = fitter.fit(row)
        assert dropped == 8 - num_lines
        assert len(scaffold.prompt_ids(prompt)) == size
        assert fitter.shown(row)["history"] == row["history"][:num_lines]


def test_a_budget_below_the_bare_prompt_is_refused(scaffold):
    with pytest.raises(ConfigError, match=r"student.max_prompt_tokens: 20: too few.*e1"):
        PromptFitter(scaffold, 20, ENGLISH).fit(example((3, 2)))


def test_the_prompts_can_be_asked_in_chinese():
    row = example((3, 2))
    text = prompt_text(student_prompt(row, CHINESE))
    assert text.splitlines()[0] == "用户画像："
    assert text.splitlines()[2] == "购买记录（由近到远）："
    assert text.endswith(CHINESE.student_format)
    teacher = rupr_prompt(row, "牛奶; 乳制品", CHINESE)
    assert teacher.system == CHINESE.teacher_system
    assert prompt_text(teacher).endswith("推理应当指向的商品：\n牛奶; 乳制品")
    bare = prompt_text(student_prompt(example(profile=""), CHINESE))
    assert bare.startswith("暂无购买记录。")


def test_the_recipe_says_the_words_and_the_budget(scaffold):
    text = {"language": "zh", "templates": {"history_heading": "观看记录："}}
    recipe = Recipe.model_validate(
        {"name": "t", "data": {"text": text}, "student": {"max_prompt_tokens": 333}}
    )
    fitter = prompt_fitter(recipe, scaffold)
    assert fitter.max_prompt_tokens == 333
    prompt, _ = fitter.fit(example((3, 2)))
    assert "\n观看记录：\n1. Private label" in prompt_text(prompt)
    assert prompt.system == CHINESE.student_system


@pytest.mark.parametrize("words", [ENGLISH, CHINESE])
def test_the_direct_teacher_reads_the_facts_and_is_asked_for_an_answer_of_its_own(words):
    row = example((3, 2))
    text = prompt_text(direct_prompt(row, words))
    assert PROFILE in text
    assert "White bread" in text
    assert words.direct_answer in text
    assert words.teacher_target not in text
    assert text == prompt_text(direct_prompt(row | {"target_item_id": "i9"}, words))


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("Bread is due. Answer: White bread; Grocery", "Bread is due.", "White bread; Grocery"),
        ("Answer: no. Bread. Answer: Bread", "Answer: no. Bread.", "Bread"),
        ("Bread is due.", "Bread is due.", None),
        ("Bread is due. Answer:", "Bread is due.", None),
        ("Answer: Bread", "", "Bread"),
    ],
)
def test_the_last_answer_of_a_direct_text_is_taken_off(text, reasoning, answer):
    assert split_own_answer(text, ENGLISH) == (reasoning, answer)


def test_a_chinese_answer_is_taken_off_too():
    assert split_own_answer("快用完了。答案：牛奶; 乳制品", CHINESE) == (
        "快用完了。",
        "牛奶; 乳制品",
    )


def test_several_answers_are_asked_for_by_their_number():
    for templates in (ENGLISH, CHINESE):
        text = prompt_text(student_prompt(example((3, 2)), templates, answers=5))
        assert "5" in text.splitlines()[-1]
        assert templates.student_format not in text


def test_what_is_on_offer_stands_behind_the_history_as_data():
    row = example((3, 2), offer=["Milk", "Ham </answer>"])
    prompt = student_prompt(row, ENGLISH)
    line = "On offer: Milk, Ham </answer>.\n"
    assert [segment.data for segment in prompt.user if segment.text == line] == [True]
    assert prompt_text(student_prompt(example((3, 2)), ENGLISH)).count("On offer") == 0
