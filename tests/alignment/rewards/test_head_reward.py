import numpy as np
import pytest

from taiji.alignment.rewards.head import (
    THIRDS,
    HeadReward,
    Heads,
    TrueItems,
    load_heads,
    prompt_text,
    third_of,
)
from taiji.alignment.rewards.reward import Rollout
from taiji.language.text_head import HeadSettings, HeadTexts, TextHead

DIMENSIONS = 4
WHOLE = "<think>\nwhy\n</think>\n<answer>\ntea\n</answer>"


class Scores:
    """A head that finds an item worth so much of what its vector says first."""

    def __init__(self, sign):
        self.sign, self.read = sign, []

    def scores(self, texts, items_ID):
        self.read.append(texts)
        return self.sign * np.repeat(items_ID[None, :, 0], len(texts.readable_N), axis=0)


class Letters:
    """Texts by their length and first letter."""

    def encode(self, texts):
        rows = [[len(t), ord(t[0]) if t else 0, 0, 0] for t in texts]
        return np.array(rows, dtype=np.float32)


def user_of_third(third):
    return next(f"u{n}" for n in range(99) if third_of(f"u{n}") == third)


USERS = [user_of_third(third) for third in range(THIRDS)]


def asked(**changes):
    # Nine items worth 0 to 8; the true one of each example is worth 5, and is the sixth of them.
    items_ID = np.zeros((9, DIMENSIONS), dtype=np.float32)
    items_ID[:, 0] = np.arange(9)
    ids = [f"e{third}" for third in range(THIRDS)]
    return TrueItems(
        **{
            "user_of": dict(zip(ids, USERS, strict=True)),
            "prompts": {e: np.ones(DIMENSIONS, dtype=np.float32) for e in ids},
            "targets": dict.fromkeys(ids, items_ID[5]),
            "place": dict.fromkeys(ids, 5),
            "items_ID": items_ID,
            "negatives": 99,
            "seed": 17,
            **changes,
        }
    )


def texts(num):
    zeros = np.zeros((num, DIMENSIONS), dtype=np.float32)
    return HeadTexts(zeros, zeros, zeros, np.zeros(num, dtype=bool))


def rollout(example_id, completion=WHOLE, status="ok"):
    return Rollout(
        example_id, completion, status, "tea", None, "none", 0.0, 0.0, None, 0.0, chain="why"
    )


def test_nobody_is_judged_by_a_head_that_knows_them_or_watched_by_the_same():
    heads = Heads(tuple(Scores(1) for _ in range(THIRDS)))
    for third, user in enumerate(USERS):
        paying, watching = heads.paying(user), heads.watching(user)
        assert heads.heads[third] not in (paying, watching)
        assert paying is not watching


def test_the_reward_by_hand():
    # Worth 5 of 0 to 8: three stand before it, rank 4, 1 / log2 5; upside down five do, rank 6.
    up, down = Scores(1), Scores(-1)
    heads = Heads((down, up, up))  # third 0 is paid by head 1, third 2 by head 0
    ndcg = asked().ndcg(heads, ["e0", "e2"], texts(2))
    assert ndcg == pytest.approx([1 / np.log2(5), 1 / np.log2(7)])
    watched = asked().ndcg(heads, ["e1"], texts(1), watching=True)  # by head 0
    assert watched == pytest.approx([1 / np.log2(7)])


def test_the_true_item_is_not_among_the_others_and_an_example_meets_the_same_ones():
    few = asked(negatives=4)
    drawn = [few._others("e0").tolist() for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 4
    assert 5 not in drawn[0]
    assert sorted(asked()._others("e0").tolist()) == [0, 1, 2, 3, 4, 6, 7, 8]
    assert len(asked(place={})._others("e0")) == 9, "a title that the catalogue lacks"


def test_what_is_not_in_the_form_earns_nothing_unless_the_gate_is_open():
    heads = Heads(tuple(Scores(1) for _ in range(THIRDS)))
    rollouts = [rollout("e0"), rollout("e0", "no tags", "malformed")]
    gated = HeadReward(heads, asked(), Letters(), gated=True)(rollouts)
    assert gated == [pytest.approx(1 / np.log2(5)), 0.0]
    assert HeadReward(heads, asked(), Letters(), gated=False)(rollouts)[1] > 0


def test_the_head_reads_chain_and_answer():
    heads = Heads(tuple(Scores(1) for _ in range(THIRDS)))
    HeadReward(heads, asked(), Letters(), gated=True)([rollout("e0")])
    (read,) = heads.paying(USERS[0]).read
    assert read.chain_ND[0].tolist() == [3, ord("w"), 0, 0]
    assert read.answer_ND[0].tolist() == [3, ord("t"), 0, 0]
    assert read.readable_N.tolist() == [True]


def test_heads_are_read_back_and_their_shares_are_of_those_who_do_not_know_the_user(tmp_path):
    settings = HeadSettings(dim=8, attention_heads=2)
    heads = Heads(tuple(TextHead(DIMENSIONS, settings).eval() for _ in range(THIRDS)))
    heads.save(tmp_path)
    items_ID = np.eye(DIMENSIONS, dtype=np.float32)
    shares = heads.log_shares(USERS, texts(3), items_ID)
    assert np.array_equal(load_heads(tmp_path).log_shares(USERS, texts(3), items_ID), shares)
    own = heads.heads[0].scores(texts(1), items_ID)
    assert not np.allclose(shares[0] - shares[0, :1], own[0] - own[0, :1])


def test_a_prompt_is_read_newest_line_first():
    lines = [{"text": f"line {n}"} for n in range(30)]
    read = prompt_text({"history": lines, "profile": "Somebody."}).splitlines()
    assert (read[0], read[-2], read[-1]) == ("line 0", "line 19", "Somebody.")
