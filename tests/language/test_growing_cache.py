import pytest
import torch
from transformers import DynamicCache

from taiji.language.growing_cache import SPARE_TOKENS, growing_cache


def decode(model, cache, change):
    """Logits of a prompt and of tokens after it, the cache being changed in between."""
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    out = []
    with torch.inference_mode():
        for step in range(SPARE_TOKENS + 3):
            change(step, cache)
            rows = cache.layers[0].keys.shape[0] if step else len(ids)
            tokens = ids if step == 0 else torch.full((rows, 1), 20 + step)
            out.append(model(input_ids=tokens, past_key_values=cache, use_cache=True).logits)
    return out


def leave(step, cache):
    pass


def rearrange(step, cache):
    if step == 4:
        cache.batch_repeat_interleave(2)
    elif step == 6:
        cache.batch_select_indices(torch.tensor([0, 2, 3]))
    elif step == 8:
        cache.batch_select_indices(torch.tensor([2, 1, 0]))  # as many rows as before
    elif step == 10:
        cache.crop(-2)


@pytest.mark.parametrize("change", [leave, rearrange])
def test_numbers_are_those_of_the_usual_cache_to_the_last_bit(tiny_model, change):
    usual = decode(tiny_model, DynamicCache(config=tiny_model.config), change)
    growing = decode(tiny_model, growing_cache(tiny_model.config), change)
    assert all(torch.equal(a, b) for a, b in zip(usual, growing, strict=True))


def test_the_past_stays_where_it_is(tiny_model):
    cache = growing_cache(tiny_model.config)
    places = []
    decode(tiny_model, cache, lambda step, c: places.append(step and c.layers[0].keys.data_ptr()))
    assert len(set(places[1:])) == 2  # moved once in 66 steps
