import pytest

from taiji.alignment.rewards.form import form_reward

WHOLE = "<think>\nwhy\n</think>\n<answer>\nTea; Food; Drinks; Tea\n</answer>"


@pytest.mark.parametrize(
    ("text", "graded", "binary"),
    [
        (WHOLE, 1.0, 1.0),
        ("<think>\n</think><answer>Tea; Food</answer>", 0.75, 0.0),  # no chain
        ("<think>why</think> so: <answer>Tea</answer>", 0.5, 0.0),  # no clear answer, so no levels
        ("", 0.0, 0.0),
    ],
)
def test_a_quarter_for_each_part_or_all_or_nothing(text, graded, binary):
    assert form_reward(text, "graded") == graded
    assert form_reward(text, "binary") == binary
