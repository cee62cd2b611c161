import pytest

from taiji.alignment.rewards.form import CleanReward, form_reward, outside_tags
from taiji.alignment.rewards.reward import Rollout

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


@pytest.mark.parametrize(
    ("text", "outside"),
    [
        (WHOLE, 0),
        ("why\n</think><answer>Tea</answer>", 0),  # the opening tag stands in the prompt
        ("Well: <think>why</think>\n so: <answer>Tea</answer>.", 5 + 3 + 1),
        ("no tags at all", 14),
        ("<think>never closed", 19),
        ("", 0),
    ],
)
def test_what_stands_outside_the_tags_is_counted_in_characters(text, outside):
    assert outside_tags(text) == outside


def rollout(completion):
    return Rollout("e1", completion, "ok", "", None, "none", 0.0, 0.0, None, 0.0)


def test_the_clean_reward_by_hand():
    # max(0, 1 - L / 100) for L = 0, 25, 150; without an answer r_fmt is 0, and L = 1.
    texts = [WHOLE, WHOLE + "x" * 25, WHOLE + "x" * 150, "<think>why</think>x"]
    rollouts = [rollout(text) for text in texts]
    assert CleanReward(gated=True)(rollouts) == [1.0, 0.75, 0.0, 0.0]
    assert CleanReward(gated=False)(rollouts) == [1.0, 0.75, 0.0, 0.99]
