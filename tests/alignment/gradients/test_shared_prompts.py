import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import steps
from transformers import LlamaForCausalLM, MistralConfig, MistralForCausalLM
from trl.trainer.utils import add_fused_lm_head

from taiji.alignment.gradients import forward
from taiji.alignment.gradients.shared_prompts import num_tokens_saved, share_prompts, shared_prefill
from taiji.language.tree import PADDING, PROMPT

# TRL 1.16 calls parts of transformers 5.23 by their old names.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")

# Three prompts padded on the left, five completions padded on the right.
IDS = torch.tensor(
    [
        [0, 5, 6, 7, 8, 9],
        [0, 5, 6, 7, 9, 0],
        [3, 4, 5, 6, 0, 0],
        [0, 0, 9, 8, 8, 8],
        [0, 0, 9, 7, 0, 0],
    ]
)
MASK = torch.tensor(
    [
        [0, 1, 1, 1, 1, 1],
        [0, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1],
        [0, 0, 1, 1, 0, 0],
    ]
)


def test_rows_by_hand():
    rows = share_prompts(IDS, MASK, 3)
    assert rows.input_ids_RT.tolist() == [
        [5, 6, 7, 8, 9, 6, 7, 9],  # 5 is shared; each branch opens with the prompt's last token
        [3, 4, 5, 6, 0, 0, 0, 0],
        [9, 8, 8, 8, 9, 7, 0, 0],  # a prompt of one token: nothing but its last
    ]
    assert rows.position_ids_RT.tolist() == [
        [0, 1, 2, 3, 4, 1, 2, 3],
        [0, 1, 2, 3, 0, 0, 0, 0],
        [0, 1, 2, 3, 0, 1, 0, 0],
    ]
    assert rows.owners_RT[0].tolist() == [PROMPT, 0, 0, 0, 0, 1, 1, 1]
    assert rows.owners_RT[1].tolist() == [PROMPT, PROMPT, 0, 0, *[PADDING] * 4]
    assert rows.labels_RT[0].tolist() == [-100, -100, 7, 8, 9, -100, 7, 9]
    assert rows.places_BC.tolist() == [[2, 3, 4], [6, 7, 0], [11, 0, 0], [17, 18, 19], [21, 0, 0]]
    assert num_tokens_saved(IDS, MASK, 3) == 30 - 24


def test_nothing_is_packed_where_nothing_is_shared():
    assert share_prompts(IDS[1:4], MASK[1:4], 3) is None
    assert num_tokens_saved(IDS[1:4], MASK[1:4], 3) == 0


@pytest.fixture(scope="module")
def model(toy_model_folder):
    model = LlamaForCausalLM.from_pretrained(toy_model_folder)
    add_fused_lm_head(model, temperature=0.7, outputs=("log_probs", "entropy"))
    return model


def fused(model, ids, mask, num):
    """As TRL scores rollouts, one row for each."""
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :-num] = -100
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        labels=labels,
        fused_lm_head=True,
    )
    return output.log_probs[:, -num:], output.entropy[:, -num:]


@st.composite
def rollouts(draw):
    """Groups of rollouts with prompts and completions of any length."""
    groups = draw(
        st.lists(
            st.tuples(
                st.lists(st.integers(3, 22), min_size=1, max_size=5),
                st.lists(st.lists(st.integers(3, 22), max_size=4), min_size=1, max_size=3),
            ),
            min_size=1,
            max_size=3,
        )
    )
    rows = [(prompt, completion) for prompt, completions in groups for completion in completions]
    width, num = max(len(p) for p, _ in rows), max(1, max(len(c) for _, c in rows))
    ids = [[0] * (width - len(p)) + p + c + [0] * (num - len(c)) for p, c in rows]
    mask = [[0] * (width - len(p)) + [1] * len(p + c) + [0] * (num - len(c)) for p, c in rows]
    return torch.tensor(ids), torch.tensor(mask), num


@settings(max_examples=40, deadline=None)
@given(rollouts())
def test_shared_and_plain_scores_are_equal(model, batch):
    ids, mask, num = batch
    want, entropies = fused(model, ids, mask, num)
    shared = share_prompts(ids, mask, num)
    there = mask[:, -num:].bool()
    layouts = [forward.plain_rows(ids, mask, num)]
    packed = ids.numel() if shared is None else shared.input_ids_RT.numel()
    assert num_tokens_saved(ids, mask, num) == ids.numel() - packed
    if shared is not None:
        layouts.append(forward.shared_rows(shared, model, there))
    for rows in layouts:
        scored = [forward.score_with_fused_head(model, rows)]
        if there.any():
            scored.append(forward.score_with_own_head(model, rows, 0.7))
        for score in scored:
            torch.testing.assert_close(score.logprobs_BC, want * there, atol=2e-6, rtol=0)
            torch.testing.assert_close(score.entropies_BC, entropies * there, atol=2e-6, rtol=0)


@pytest.mark.parametrize("cut", [0, 1])
def test_generation_with_a_shared_prefill_says_the_same(toy_model_folder, cut):
    model = LlamaForCausalLM.from_pretrained(toy_model_folder)
    ids = torch.tensor([[0, 5, 6]] * 3 + [[7, 8, 9]] * 2 + [[3, 3, 3]])[cut:]
    mask = (ids > 0).int()
    settings = {"max_new_tokens": 6, "do_sample": False, "use_cache": True}
    want = model.generate(input_ids=ids, attention_mask=mask, **settings)
    widths, decoder = [], model.model.forward

    def spying(*args, **kwargs):
        widths.append(tuple(kwargs["input_ids"].shape))
        return decoder(*args, **kwargs)

    model.model.forward = spying
    with shared_prefill(model):
        found = model.generate(input_ids=ids, attention_mask=mask, **settings)
    assert found.tolist() == want.tolist()
    assert widths[0] == (3, 2), "three prompts, but for their last tokens"
    assert all(width == (6 - cut, 1) for width in widths[1:])
    assert "generate" not in vars(model)


def test_a_whole_run_differs_by_rounding_alone(make_trainer):
    runs = [
        make_trainer(share_prompts=share, max_steps=1, prompts=[[3, 4, 5], [6, 7]])
        for share in (True, False)
    ]
    for run in runs:
        torch.manual_seed(3)
        run.train()
    one, other = (steps(run)[0] for run in runs)
    # TRL deals rollouts out at random, we deal out groups; with all in one window it is the same.
    for name in ("loss", "grad_norm", "reward", "popo/w_share_of_a"):
        assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-6)


def test_a_model_that_cannot_share_is_told_of(make_trainer, caplog, toy_tokenizer):
    trainer = make_trainer(rule="fixed", max_steps=1)
    windowed = MistralForCausalLM(
        MistralConfig(
            vocab_size=len(toy_tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            sliding_window=4,
        )
    )
    scorer = forward.CompletionScorer(
        SimpleNamespace(
            args=copy.copy(trainer.args),
            _is_vlm=False,
            aux_loss_enabled=False,
            accelerator=trainer.accelerator,
        )
    )
    assert not scorer.shares(windowed)
    assert not scorer.shares(windowed)
    assert caplog.text.count("slides a window") == 1
