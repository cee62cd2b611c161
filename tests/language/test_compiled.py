import pytest
import torch
import torch._inductor.config
from torch._inductor.utils import fresh_cache
from transformers import GPT2Config, GPT2LMHeadModel

from taiji.errors import EngineError
from taiji.language.compiled import compile_blocks


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own
def test_a_missing_compiler_is_named(tiny_model):
    missing = torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)})
    torch.compiler.reset()
    with fresh_cache(), missing, pytest.raises(EngineError, match=r"C\+\+ compiler.*compile at"):
        compile_blocks(tiny_model, lambda: tiny_model(torch.arange(9)[None]))


def test_blocks_that_are_not_found_are_not_compiled():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=1, n_head=2))
    with pytest.raises(EngineError, match=r"GPT2LMHeadModel: its blocks.*compile: false"):
        compile_blocks(model, lambda: None)


def test_an_error_without_words_is_named_by_its_kind(tiny_model):
    def rehearse():
        raise RuntimeError

    with pytest.raises(EngineError, match="cannot be compiled: RuntimeError: install"):
        compile_blocks(tiny_model, rehearse)
