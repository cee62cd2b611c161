import pytest

from taiji.alignment.rewards.lists import list_reward


@pytest.mark.parametrize(
    ("kind", "reward"),
    # 0.5 / log2(2) + 1 / log2(3) = 1.13093 over 1 + 0.63093 + 0.5 = 2.13093
    [("best", 1.0), ("mean", 0.5), ("ndcg", 1.13093 / 2.13093)],
)
def test_a_list_by_hand(kind, reward):
    assert list_reward([0.5, 1.0], 3, kind) == pytest.approx(reward, abs=1e-5)


@pytest.mark.parametrize("kind", ["best", "mean", "ndcg"])
def test_one_answer_earns_what_it_earns(kind):
    assert list_reward([0.3], 1, kind) == pytest.approx(0.3)


@pytest.mark.parametrize("kind", ["best", "mean", "ndcg"])
def test_nothing_earns_nothing_and_surplus_lines_do_not_count(kind):
    assert list_reward([], 2, kind) == 0.0
    assert list_reward([0.1, 0.2, 9.0], 2, kind) == list_reward([0.1, 0.2], 2, kind)


def test_the_better_line_first_earns_more_by_ndcg_alone():
    for kind in ("best", "mean"):
        assert list_reward([1.0, 0.0], 2, kind) == list_reward([0.0, 1.0], 2, kind)
    assert list_reward([1.0, 0.0], 2, "ndcg") > list_reward([0.0, 1.0], 2, "ndcg")
