import shutil

import pytest
import torch
import torch._inductor.config
from torch._inductor.utils import fresh_cache
from transformers import GPT2Config, GPT2LMHeadModel

from taiji.errors import EngineError
from taiji.language.compiled import compile_between_attention

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


@pytest.fixture(autouse=True)
def _afresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@needs_compiler
def test_a_compiled_model_says_the_same_and_compiles_no_more(tiny_model):
    rows = [torch.arange(length * num).view(num, length) for num, length in ((1, 9), (3, 40))]
    with torch.inference_mode():
        expected = [tiny_model(ids).logits for ids in rows]
        compile_between_attention(tiny_model)
        with torch.compiler.set_stance("fail_on_recompile"):
            found = [tiny_model(ids).logits for ids in rows]
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=0)


@needs_compiler
def test_attention_is_left_alone(tiny_model):
    compile_between_attention(tiny_model)
    parts = tiny_model.model.layers[1].named_children()
    compiled = {name: part._compiled_call_impl is not None for name, part in parts}
    assert compiled == {
        "self_attn": False,
        "mlp": True,
        "input_layernorm": True,
        "post_attention_layernorm": True,
    }


def test_a_missing_compiler_is_named(tiny_model):
    missing = torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)})
    with fresh_cache(), missing, pytest.raises(EngineError, match=r"C\+\+ compiler.*compile at"):
        compile_between_attention(tiny_model)


def test_blocks_that_are_not_found_are_not_compiled():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=1, n_head=2))
    with pytest.raises(EngineError, match=r"GPT2LMHeadModel: its blocks.*compile: false"):
        compile_between_attention(model)
