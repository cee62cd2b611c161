import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taiji.reasoning.boilerplate import shares_told_to_others

EMPTY = "This shopper has clear habits and will surely need an everyday product soon."
CHINESE = "这位用户有明显的购物习惯，接下来大概会需要一件日常用品，请耐心等待。"
FACTS = ["Oat milk 1 l", "Rye bread 500 g", "Green tea 20 bags", "Corn flakes 375 g"]


def shares(chains, prompts=None, users=None):
    users = users or [f"u{n}" for n in range(len(chains))]
    told = zip(chains, users, prompts or [""] * len(chains), strict=True)
    return shares_told_to_others(told).tolist()


def test_a_chain_that_three_users_are_told_is_boilerplate():
    assert shares([EMPTY] * 3 + ["Quite another thing is said to the last of these users."]) == [
        1.0, 1.0, 1.0, 0.0,
    ]  # fmt: skip


def test_two_users_or_one_user_often_are_no_crowd():
    assert shares([EMPTY, EMPTY]) == [0.0, 0.0]
    assert shares([EMPTY] * 4, users=["u1", "u1", "u1", "u2"]) == [0.0] * 4


def test_of_many_users_one_in_a_hundred_must_be_told():
    others = [" ".join(f"word{n}x{i}" for i in range(8)) for n in range(397)]
    assert shares([EMPTY] * 3 + others[:297])[:3] == [1.0] * 3
    assert shares([EMPTY] * 3 + others[:298])[:3] == [0.0] * 3
    assert shares([EMPTY] * 4 + others[:396])[:4] == [1.0] * 4


def test_a_near_duplicate_is_found_by_the_share_of_its_runs():
    # 13 words, 8 runs of 6; the last word differs, so one run of each is its own
    chains = [EMPTY.replace("soon", word) for word in ("soon", "today", "next")]
    assert shares(chains) == pytest.approx([7 / 8] * 3)


def test_fixed_phrases_around_the_users_own_facts_pass():
    chains = [f"The list names {fact}, so more of it may be needed soon." for fact in FACTS]
    prompts = [f"1. {fact}; Grocery; 2 days before" for fact in FACTS]
    assert max(shares(chains, prompts)) < 0.5
    same = [chains[0]] * 4  # all of it is common, but where it quotes the prompt it may be
    assert max(shares(same, [prompts[0]] * 4)) < 0.8
    assert min(shares(same)) == 1.0


def test_chinese_is_read_by_characters():
    assert shares([CHINESE] * 3) == [1.0] * 3
    assert shares([CHINESE] * 3, ["1. 日常用品"] * 3)[0] < 1.0


def test_short_and_empty_chains_have_a_share_too():
    assert shares(["Milk.", "Milk!", "milk", "", "Tea"]) == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert shares([]) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=9), min_size=1, max_size=12))
def test_runs_are_counted_as_a_loop_would_count_them(texts):
    def runs(text):
        padded = [*text, *[""] * (6 - len(text))] if text else []
        return [tuple(padded[i : i + 6]) for i in range(len(padded) - 5)]

    for text, share in zip(texts, shares([" ".join(text) for text in texts]), strict=True):
        told = [sum(run in runs(other) for other in texts) >= 3 for run in runs(text)]
        assert share == pytest.approx(np.mean(told) if told else 0.0)
