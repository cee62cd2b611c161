import pytest

from taiji.alignment.rewards.form import Form, check_form

WHOLE = "<think>\nwhy\n</think>\n<answer>\nTea; Food; Drinks; Tea\n</answer>"


@pytest.mark.parametrize(
    ("text", "think", "chain", "answer", "levels"),
    [
        (WHOLE, 1, 1, 1, 1),
        ("why</think><answer>Tea</answer>", 1, 1, 1, 1),  # a server kept <think> to itself
        ("<think>\n</think><answer>Tea; Food</answer>", 1, 0, 1, 1),
        ("<think>why</think> so: <answer>Tea</answer>", 1, 1, 0, 0),
        ("<think>why</think><answer></answer>", 1, 1, 0, 0),
        ("<think>a</think>b</think><answer>Tea</answer>", 0, 1, 1, 1),
        ("<think>a<think>b</think><answer>Tea</answer>", 0, 1, 1, 1),
        ("<think>why</think><answer>Tea;; Drinks</answer>", 1, 1, 1, 0),
        ("<think>why</think><answer>Tea; a; b; c; d</answer>", 1, 1, 1, 0),
        ("<answer>Tea</answer>", 0, 0, 0, 0),
        ("", 0, 0, 0, 0),
    ],
)
def test_each_part_of_the_form_is_seen_alone(text, think, chain, answer, levels):
    form = check_form(text)
    assert form == Form(bool(think), bool(chain), bool(answer), bool(levels))
    assert form.reward("graded") == (think + chain + answer + levels) / 4
    assert form.reward("binary") == (1.0 if think and chain and answer and levels else 0.0)
