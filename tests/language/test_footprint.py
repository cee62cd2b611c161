"""The arithmetic of memory, against what a small model really holds."""

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from taiji.language.footprint import model_shape, shape_of, training_memory

CONFIG = {
    "vocab_size": 300, "hidden_size": 48, "intermediate_size": 128, "num_hidden_layers": 4,
    "num_attention_heads": 6, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
}  # fmt: skip


def model(*, tied):
    return LlamaForCausalLM(LlamaConfig(**CONFIG, tie_word_embeddings=tied))


def shape(*, tied):
    found = shape_of({**CONFIG, "tie_word_embeddings": tied})
    assert found is not None
    return found


@pytest.mark.parametrize("tied", [True, False])
def test_every_weight_is_counted(tied):
    assert shape(tied=tied).parameters == sum(p.numel() for p in model(tied=tied).parameters())


@pytest.mark.parametrize(
    ("name", "billions"),
    [("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", 7.62), ("Qwen/QwQ-32B", 32.8)],
)
def test_the_papers_models_have_their_published_size(name, billions):
    found = model_shape(name)
    assert found is not None
    assert found.parameters / 1e9 == pytest.approx(billions, rel=0.005)


def test_other_families_are_not_guessed_at():
    assert shape_of(CONFIG | {"vocab_size": "many"}) is None
    assert shape_of({key: v for key, v in CONFIG.items() if key != "rms_norm_eps"}) is None


def test_gradients_and_moments_are_what_a_step_leaves():
    tuned = model(tied=True)
    optimiser = torch.optim.AdamW(tuned.parameters())
    ids = torch.arange(20)[None]
    tuned(input_ids=ids, labels=ids).loss.backward()
    optimiser.step()
    expected = training_memory(shape(tied=True), shards=1, copies=1)
    gradients = sum(p.grad.nbytes for p in tuned.parameters())
    moments = sum(
        value.nbytes
        for state in optimiser.state.values()
        for value in state.values()
        if value.dim()
    )
    assert (expected.weights, expected.gradients, expected.optimiser) == (
        sum(p.nbytes for p in tuned.parameters()), gradients, moments,
    )  # fmt: skip
    shared = training_memory(shape(tied=True), shards=4, copies=1)
    assert shared.optimiser == moments // 4


def kept_bytes(tuned, ids):
    """What the graph of a forward pass holds beyond the weights, each storage once."""
    weights = {p.untyped_storage().data_ptr() for p in tuned.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = tuned.model(input_ids=ids, use_cache=False).last_hidden_state
    assert hidden.requires_grad
    return sum(kept.values())


def test_activations_are_what_the_graph_keeps_within_a_quarter():
    tuned, tokens = model(tied=True).train(), 256
    ids = torch.arange(tokens)[None] % 300
    measured = kept_bytes(tuned, ids)
    expected = shape(tied=True).activations(tokens, checkpointed=False, bytes_each=4)
    assert 0.8 < expected / measured < 1.25
    assert shape(tied=True).activations(tokens, checkpointed=True, bytes_each=4) < expected / 2


def test_a_cache_is_what_generation_holds():
    cache = DynamicCache()
    with torch.inference_mode():
        model(tied=True)(input_ids=torch.arange(30)[None], past_key_values=cache)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert shape(tied=True).cache(30, 4) == held


def test_logits_are_float32_and_their_gradient_as_much():
    # 10 tokens x 300 words x 4 bytes, twice
    assert shape(tied=True).logits(10) == 24_000
