import pytest
from shop import ITEMS, PROFILE, example, text_of

from taiji.errors import ConfigError
from taiji.language.prompt import ChatScaffold
from taiji.reasoning.prompts import fit_prompt, prompt_text, rupr_prompt, shown, student_prompt


@pytest.fixture(scope="module")
def scaffold(smollm2_tokenizer):
    return ChatScaffold(smollm2_tokenizer)


def test_the_student_reads_profile_then_numbered_history_then_format():
    text = prompt_text(student_prompt(example((3, 2, 0.99), (0, 9))))
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
    prompt = student_prompt(example((3, 2)))
    assert [segment.text for segment in prompt.user if segment.data] == [
        f"{PROFILE}\n",
        "1. Private label white bread 20 oz; Grocery; Bread; White bread; 2 days before\n",
    ]


def test_what_is_missing_is_left_out():
    text = prompt_text(student_prompt(example(profile="")))
    assert "Profile" not in text
    assert "No purchases are known." in text


def test_our_own_words_are_few(scaffold):
    assert len(scaffold.prompt_ids(student_prompt(example(profile="")))) <= 70


def test_the_teacher_sees_the_answer_and_the_student_never_does(scaffold):
    row, answer = example((3, 2)), text_of(ITEMS[8])
    assert answer in prompt_text(rupr_prompt(row, answer))
    student = student_prompt(row)
    assert not any(ITEMS[8][name] in prompt_text(student) for name in ("title", "category_l2"))


def test_a_prompt_that_fits_loses_nothing(scaffold):
    row = example((3, 2), (0, 9))
    prompt, dropped = fit_prompt(row, scaffold, 1024)
    assert (prompt, dropped) == (student_prompt(row), 0)


def test_the_oldest_lines_go_first_and_no_more_than_needed(scaffold):
    row = example(*[(item, item + 1) for item in range(8)])
    sizes = [
        len(scaffold.prompt_ids(student_prompt({**row, "history": row["history"][:num_lines]})))
        for num_lines in range(9)
    ]
    for num_lines, size in enumerate(sizes):
        prompt, dropped = fit_prompt(row, scaffold, size)
        assert dropped == 8 - num_lines
        assert len(scaffold.prompt_ids(prompt)) == size
        assert shown(row, scaffold, size)["history"] == row["history"][:num_lines]


def test_a_budget_below_the_bare_prompt_is_refused(scaffold):
    with pytest.raises(ConfigError, match=r"student.max_prompt_tokens: 20: too few.*e1"):
        fit_prompt(example((3, 2)), scaffold, 20)
