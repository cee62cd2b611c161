import numpy as np
import pytest
import torch

from taiji.errors import DataError, MissingArtifactError
from taiji.language.text_head import (
    HeadSettings,
    HeadTexts,
    TextHead,
    fit_head,
    gated,
    load_head,
    ndcg_of_true,
    save_head,
)

SMALL = HeadSettings(dim=8, attention_heads=2, negatives=8, epochs=20, batch_size=16)
TASTES, DIMENSIONS = 4, 16


def told(num=200, seed=0):
    """Users whose chain names the taste of their next item, items of four tastes, and targets."""
    random = np.random.default_rng(seed)
    taste_TD = np.random.default_rng(9).normal(size=(TASTES, DIMENSIONS)).astype(np.float32)
    taste_N = random.integers(TASTES, size=num)
    items_ID = np.repeat(taste_TD, 5, axis=0)
    target_N = taste_N * 5 + random.integers(5, size=num)
    prompt_ND = random.normal(size=(num, DIMENSIONS)).astype(np.float32)
    none_ND = np.zeros_like(prompt_ND)
    texts = HeadTexts(prompt_ND, taste_TD[taste_N], none_ND, np.zeros(num, dtype=bool))
    return texts, target_N, items_ID


def test_the_gate_by_hand():
    # gamma 2, an open gate (sigmoid 1): g = 2 (1 - 1/2) = 1; shut: -1; undecided: 0.
    chosen, reasoned = torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, -4.0]])
    for logit, want in ((1e9, [11, -2]), (-1e9, [-9, 6]), (0.0, [1, 2])):
        found = gated(chosen, reasoned, lambda _, z=logit: torch.tensor([[z]]), 2.0)
        assert found.tolist() == [want]


def test_ndcg_by_hand():
    # Ranks 1, 2 and 4: 1 / log2 2, 1 / log2 3, 1 / log2 5; an equal stands before the true item.
    others = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [3.0, 2.0, 1.0]])
    assert ndcg_of_true(np.ones(3), others) == pytest.approx([1, 0.63093, 0.430677], abs=1e-5)


def test_an_answer_that_cannot_be_read_leaves_the_prompt_in_its_place():
    texts, _, _ = told(4)
    head = TextHead(DIMENSIONS, SMALL).eval()
    answer_ND = np.ones((4, DIMENSIONS), dtype=np.float32)
    unread = HeadTexts(texts.prompt_ND, texts.chain_ND, answer_ND, np.zeros(4, dtype=bool))
    read = HeadTexts(texts.prompt_ND, texts.chain_ND, answer_ND, np.ones(4, dtype=bool))
    assert np.array_equal(head.user_vectors(unread), head.user_vectors(texts))
    assert not np.allclose(head.user_vectors(read), head.user_vectors(texts))


def test_what_was_not_written_is_nothing():
    texts, _, items_ID = told(4)
    alone = texts.prompts_alone()
    head = TextHead(DIMENSIONS, SMALL).eval()
    other = HeadTexts(texts.prompt_ND, 0 * texts.chain_ND, 0 * texts.chain_ND, alone.readable_N)
    assert np.array_equal(head.scores(alone, items_ID), head.scores(other, items_ID))
    assert not np.allclose(head.scores(alone, items_ID), head.scores(texts, items_ID))


def test_the_head_learns_to_read_the_chain():
    texts, target_N, items_ID = told()
    head = fit_head(texts, target_N, items_ID, SMALL, seed=1)
    fresh, wanted_N, _ = told(seed=5)
    best_N = head.scores(fresh, items_ID).argmax(axis=1)
    assert (best_N // 5 == wanted_N // 5).mean() > 0.9
    others_N = np.roll(np.arange(200), 1)
    misled_N = head.scores(fresh.of_others(others_N), items_ID).argmax(axis=1)
    assert (misled_N // 5 == wanted_N // 5).mean() < 0.5


def test_a_head_is_read_back_as_it_was(tmp_path):
    texts, target_N, items_ID = told(40)
    head = fit_head(texts, target_N, items_ID, SMALL, seed=1)
    again = fit_head(texts, target_N, items_ID, SMALL, seed=1)
    save_head(head, tmp_path / "head")
    read = load_head(tmp_path / "head")
    assert np.array_equal(read.scores(texts, items_ID), head.scores(texts, items_ID))
    assert np.array_equal(again.scores(texts, items_ID), head.scores(texts, items_ID))
    (tmp_path / "head" / "head.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match="rerun the stage"):
        load_head(tmp_path / "head")
    (tmp_path / "head" / "head.safetensors").unlink()
    with pytest.raises(MissingArtifactError):
        load_head(tmp_path / "head")


def test_too_few_users_are_refused():
    texts, target_N, items_ID = told(5)
    with pytest.raises(DataError, match=r"raise data\.num_rl"):
        fit_head(texts, target_N, items_ID, SMALL, seed=1)
