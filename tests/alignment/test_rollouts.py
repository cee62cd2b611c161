import numpy as np
import pyarrow as pa
import pytest
import torch
from test_grounding import ITEMS, WordEncoder

from taiji import schema
from taiji.alignment.popo.reference import group_advantages, mix
from taiji.alignment.rewards.custom import OwnReward
from taiji.alignment.rewards.grounding import Grounder
from taiji.alignment.rewards.normalisers import Linear
from taiji.alignment.rewards.preference import PreferenceReward, Scale
from taiji.alignment.rewards.reward import Judged
from taiji.alignment.rollouts import PolicyRewards, RolloutJudge
from taiji.errors import DivergenceError
from taiji.language.encoder_caches import RecentTexts

END = 2
PAPERS = {name: Judged(name) for name in ("semantic", "preference")}


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
        encoder=RecentTexts(encoder),
        grounder=Grounder(pa.Table.from_pylist(ITEMS, schema.ITEMS), encoder),
        preference=PreferenceReward(scorer, Scale(Linear("minmax", 0.0, 0.5))),
        form="graded",
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
    assert (first.format, first.cosine) == (1, 1)
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


CALL = {
    "prompts": ["p"],
    "completions": [write("milk")],
    "completion_ids": [[END]],
    "example_id": ["e1"],
    "trainer_state": None,
}


def test_the_reward_functions_share_one_judgement(judge, scorer):
    rewards = PolicyRewards(judge, PAPERS)
    semantic, preference = rewards.functions()
    assert (semantic.__name__, preference.__name__) == rewards.names == ("semantic", "preference")
    assert semantic(**CALL) == [pytest.approx(1)]
    assert preference(**CALL) == [pytest.approx(0.4)]
    assert len(scorer.asked) == 1
    assert [rollout.example_id for rollout in rewards.take()] == ["e1"]
    assert rewards.take() == []
    semantic(**CALL)
    assert len(rewards.take()) == 1, "the same rollouts in a later step are a new judgement"


def test_what_is_not_paid_is_judged_all_the_same(judge):
    rewards = PolicyRewards(judge, {"format": Judged("format")})
    (only,) = rewards.functions()
    assert (only.__name__, only(**CALL)) == ("format", [1.0])
    (rollout,) = rewards.take()
    assert (rollout.semantic, rollout.preference) == (pytest.approx(1), pytest.approx(0.4))
    assert rollout.custom == {}


def test_a_reward_of_the_users_own_sees_answers_and_items(judge):
    seen = {}

    def brevity(completions, answers, item_ids, prompts, **_):
        seen.update(answers=answers, item_ids=item_ids, prompts=prompts)
        return [None if answer is None else 1 / len(answer) for answer in answers]

    rewards = PolicyRewards(judge, {"semantic": Judged("semantic"), "brevity": OwnReward(brevity)})
    semantic, own = rewards.functions()
    assert own.__name__ == "brevity"
    assert own(**CALL) == [0.25]
    assert seen == {"answers": ["milk"], "item_ids": ["milk"], "prompts": ["p"]}
    semantic(**CALL)
    assert rewards.take()[0].custom == {"brevity": 0.25}
    semantic(**CALL)
    assert rewards.take()[0].custom == {}, "what an earlier step earned is not this one's"


def test_a_group_in_which_every_answer_is_empty_does_not_poison_the_batch(judge):
    empty, whole = (
        ["", write(""), "no tags", write("")],
        [write(t) for t in ("milk", "bread", "soap", "milk bread")],
    )
    judge.preference.scorer.scores |= {("e2", i): 0.1 for i in ("milk", "bread", "soap")}
    judged = judge.judge(["e1"] * 4 + ["e2"] * 4, empty + whole, [[END]] * 8)
    rows = [[r.semantic, r.preference, r.format] for r in judged]
    rewards, weights = torch.tensor(rows).view(2, 4, 3), torch.tensor([0.5, 0.5, 0.0])
    assert (rewards[0, :, :2] == 0).all()
    advantages = group_advantages(mix(rewards, weights))
    assert (advantages[0] == 0).all()
    alone = group_advantages(mix(rewards[1:], weights))
    assert torch.isfinite(advantages).all()
    assert advantages[1].tolist() == alone[0].tolist()
    assert advantages[1].max() > advantages[1].min()


def test_answers_are_embedded_once_until_a_checkpoint(judge):
    asked = judge.grounder._encoder.calls
    rewards = PolicyRewards(judge, PAPERS)
    for _ in range(2):
        rewards.functions()[0](**CALL)
        rewards.take()
    assert asked.count(["milk"]) == 1
    rewards.forget()
    rewards.functions()[0](**CALL)
    assert asked.count(["milk"]) == 2
