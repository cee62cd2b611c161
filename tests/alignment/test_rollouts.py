import numpy as np
import pyarrow as pa
import pytest
from test_grounding import ITEMS, WordEncoder

from taiji import schema
from taiji.alignment.grounding import Grounder
from taiji.alignment.rewards import MinMax
from taiji.alignment.rollouts import PolicyRewards, RolloutJudge
from taiji.errors import DivergenceError

END = 2


class TableScorer:
    """CTCVR by pair, and what was asked."""

    def __init__(self, scores):
        self.scores, self.asked = scores, []

    def score(self, context_ids, item_ids):
        self.asked.append(list(zip(context_ids, item_ids, strict=True)))
        return np.array([self.scores[pair] for pair in self.asked[-1]])


def write(answer):
    return f"<think>\nbecause\n</think>\n<answer>\n{answer}\n</answer>"


@pytest.fixture
def scorer():
    return TableScorer({("e1", "milk"): 0.2, ("e2", "soap"): 0.9, ("e2", "milk"): 0.0})


@pytest.fixture
def judge(scorer):
    encoder = WordEncoder()
    milk, soap = encoder.encode(["milk", "soap"])
    return RolloutJudge(
        targets={"e1": milk, "e2": soap},
        encoder=encoder,
        grounder=Grounder(pa.Table.from_pylist(ITEMS, schema.ITEMS), encoder),
        scorer=scorer,
        normaliser=MinMax(0.0, 0.5),
        end_ids=frozenset({END}),
    )


def test_both_rewards_by_hand(judge, scorer):
    # e1 wants milk: cosine 1; CTCVR 0.2 of [0, 0.5] is 0.4. e2 wants soap, is offered half
    # milk, half soap: cosine 0.7071; both are as near, the first item wins.
    first, second = judge.judge(
        ["e1", "e2"], [write("Fresh Milk 1 L"), write("milk soap")], [[7, END], [7, END]]
    )
    assert (first.semantic, first.preference) == (pytest.approx(1), pytest.approx(0.4))
    assert (first.status, first.rung, first.answer) == ("ok", "exact", "Fresh Milk 1 L")
    assert second.semantic == pytest.approx(0.7071, abs=1e-4)
    assert (second.grounded_item_id, second.preference) == ("milk", 0.0)
    assert scorer.asked == [[("e1", "milk"), ("e2", "milk")]]


@pytest.mark.parametrize(
    ("text", "ids", "status"),
    [
        ("no tags at all", [7, END], "malformed"),
        ("<think>\nand then it broke o", [7, 7], "truncated"),
        (write("milk") + "<answer>soap</answer>", [7, END], "malformed"),
        (write(""), [7, END], "empty"),
        ("", [], "empty"),
    ],
)
def test_no_clear_answer_earns_nothing_and_asks_nobody(judge, scorer, text, ids, status):
    (rollout,) = judge.judge(["e1"], [text], [ids])
    assert (rollout.semantic, rollout.preference) == (0, 0)
    assert (rollout.status, rollout.rung, rollout.grounded_item_id) == (status, "none", None)
    assert scorer.asked == []


def test_an_answer_that_names_nothing_may_still_mean_something(judge):
    (rollout,) = judge.judge(["e1"], [write("quite unlike anything")], [[END]])
    assert (rollout.status, rollout.rung, rollout.preference) == ("ok", "none", 0)


def test_a_score_that_is_nan_stops_the_run(judge, scorer):
    scorer.scores["e1", "milk"] = float("nan")
    with pytest.raises(DivergenceError):
        judge.judge(["e1"], [write("milk")], [[END]])


def test_the_two_reward_functions_share_one_judgement(judge, scorer):
    rewards = PolicyRewards(judge)
    call = {
        "completions": [write("milk")],
        "completion_ids": [[END]],
        "example_id": ["e1"],
        "trainer_state": None,
    }
    assert rewards.semantic(**call) == [pytest.approx(1)]
    assert rewards.preference(**call) == [pytest.approx(0.4)]
    assert len(scorer.asked) == 1
    assert [rollout.example_id for rollout in rewards.take()] == ["e1"]
    assert rewards.take() == []
    rewards.semantic(**call)
    assert len(rewards.take()) == 1, "the same rollouts in a later step are a new judgement"
