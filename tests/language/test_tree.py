import pytest
import torch
from torch.nn.attention.flex_attention import create_mask
from torch.nn.functional import scaled_dot_product_attention as sdpa
from transformers import FalconConfig, FalconForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from taiji.language import tree as tree_module
from taiji.language.tree import PADDING, chunked_attention, lay_out, pack, tree_mask
from taiji.language.tree import PROMPT as SHARED

PROMPT = [5, 6, 7, 8, 9]
BRANCHES = [[20, 21, 22], [30], [40, 41, 42, 43, 44]]


def run(model, tree):
    with torch.inference_mode():
        return model(
            input_ids=tree.input_ids,
            position_ids=tree.position_ids,
            attention_mask=tree.attention_mask,
        ).logits[0]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_logits_equal_one_by_one(tiny_model, attention):
    tiny_model.set_attn_implementation(attention)
    row = lay_out(PROMPT, BRANCHES)
    packed = run(tiny_model, pack([row], tiny_model))
    for branch, (start, stop) in zip(BRANCHES, row.spans, strict=True):
        with torch.inference_mode():
            alone = tiny_model(input_ids=torch.tensor([PROMPT + branch])).logits[0]
        torch.testing.assert_close(packed[start:stop], alone[len(PROMPT) :], atol=1e-5, rtol=0)
        torch.testing.assert_close(packed[: len(PROMPT)], alone[: len(PROMPT)], atol=1e-5, rtol=0)


def test_predictors_point_at_the_token_before(tiny_model):
    row = lay_out(PROMPT, BRANCHES)
    packed = run(tiny_model, pack([row], tiny_model))
    for i, branch in enumerate(BRANCHES):
        with torch.inference_mode():
            alone = tiny_model(input_ids=torch.tensor([PROMPT + branch])).logits[0]
        expected = alone[len(PROMPT) - 1 : -1]
        torch.testing.assert_close(packed[row.predictors(i)], expected, atol=1e-5, rtol=0)


def test_layout_by_hand(tiny_model):
    row = lay_out([1, 2], [[3, 4], [], [5]])
    tree = pack([row], tiny_model)
    assert tree.input_ids.tolist() == [[1, 2, 3, 4, 5]]
    assert tree.position_ids.tolist() == [[0, 1, 2, 3, 2]]
    assert row.spans == ((2, 4), (4, 4), (4, 5))
    assert [row.predictors(i) for i in range(3)] == [[1, 2], [], [1]]
    seen = tree.attention_mask[0, 0].int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],  # the last branch does not see the first
    ]


@pytest.mark.parametrize(("prompt", "branches"), [([], [[1]]), ([1], [])])
def test_nothing_to_lay_out_is_refused(prompt, branches):
    with pytest.raises(ValueError, match="at least one"):
        lay_out(prompt, branches)


def test_rows_of_different_length_do_not_disturb_each_other(tiny_model):
    rows = [lay_out(PROMPT, BRANCHES), lay_out(PROMPT[:2], BRANCHES[:1])]
    tree = pack(rows, tiny_model)
    assert tree.input_ids.shape == tree.position_ids.shape == (2, 14)
    with torch.inference_mode():
        together = tiny_model(
            input_ids=tree.input_ids,
            position_ids=tree.position_ids,
            attention_mask=tree.attention_mask,
        ).logits
    for row, logits in zip(rows, together, strict=True):
        alone = run(tiny_model, pack([row], tiny_model))
        torch.testing.assert_close(logits[: len(row.ids)], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_is_seen_by_itself_alone(tiny_model, attention):
    tiny_model.set_attn_implementation(attention)
    mask = tree_mask(torch.tensor([[SHARED, 0, PADDING, PADDING]]), tiny_model)[0, 0]
    seen = mask if mask.dtype == torch.bool else mask == 0
    assert seen.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]


def test_the_block_mask_of_flex_attention_says_the_same(tiny_model):
    owners = torch.tensor([[SHARED, SHARED, 0, 0, 1, PADDING], [SHARED, 0, 1, 1, 2, 2]])
    dense = tree_mask(owners, tiny_model)
    tiny_model.config._attn_implementation = "flex_attention"
    block = tree_mask(owners, tiny_model)
    assert torch.equal(create_mask(block.mask_mod, 2, 1, 6, 6, device="cpu"), dense)


def decode(model, tree):
    with torch.inference_mode():
        return model.get_decoder()(
            input_ids=tree.input_ids,
            position_ids=tree.position_ids,
            attention_mask=tree.attention_mask,
            use_cache=False,
        ).last_hidden_state


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("size", [1, 4, 7, 14, 96])
def test_chunks_of_attention_change_no_token(tiny_model, monkeypatch, attention, size):
    monkeypatch.setattr(tree_module, "_CHUNK", size)
    tiny_model.set_attn_implementation(attention)
    tree = pack([lay_out(PROMPT, BRANCHES), lay_out(PROMPT[:3], BRANCHES)], tiny_model)
    with chunked_attention(tiny_model):
        chunked = decode(tiny_model, tree)
    torch.testing.assert_close(chunked, decode(tiny_model, tree), atol=1e-5, rtol=0)


def test_a_chunk_meets_no_key_behind_it(tiny_model, monkeypatch):
    monkeypatch.setattr(tree_module, "_CHUNK", 6)
    tree, seen = pack([lay_out(PROMPT, BRANCHES)], tiny_model), []

    def spy(query, key, *args, **rest):
        seen.append((query.shape[2], key.shape[1:3]))
        return sdpa(query, key, *args, **rest)

    monkeypatch.setattr(tree_module, "scaled_dot_product_attention", spy)
    with chunked_attention(tiny_model):
        decode(tiny_model, tree)
    keys = tiny_model.config.num_key_value_heads  # not repeated for each head
    assert seen == [(6, (keys, 6)), (6, (keys, 12)), (2, (keys, 14))] * 2  # blocks


def test_scores_with_a_bias_are_left_to_transformers(tiny_model):
    generator = torch.Generator().manual_seed(5)
    query, key, bias = (torch.randn(1, 4, 6, 6, generator=generator) for _ in range(3))
    mask = torch.zeros(1, 1, 6, 6).masked_fill(torch.ones(6, 6).triu(1).bool(), float("-inf"))
    attention = tiny_model.model.layers[0].self_attn
    attention.num_key_value_groups = 1
    attend = ALL_ATTENTION_FUNCTIONS[tree_module._IN_CHUNKS]
    found, _ = attend(attention, query, key, key, mask, position_bias=bias)
    expected = sdpa(query, key, key, attn_mask=mask + bias).transpose(1, 2)
    torch.testing.assert_close(found, expected)


def test_the_kernel_comes_back_whatever_happens(tiny_model):
    with pytest.raises(RuntimeError), chunked_attention(tiny_model):
        raise RuntimeError
    assert tiny_model.config._attn_implementation == "sdpa"


def test_a_model_with_kernels_of_its_own_keeps_them(caplog):
    torch.manual_seed(3)
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = FalconForCausalLM(FalconConfig(**sizes, attn_implementation="sdpa")).eval()
    with chunked_attention(model):
        assert model.config._attn_implementation == "sdpa"
    assert caplog.records == []
