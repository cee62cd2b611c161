"""Fixtures that several rooms share."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read by OpenMP when torch is imported
os.environ["TAIJI_PSEUDONYM_KEY"] = "a key for tests alone"  # no test makes a file at home
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for the Hub is a broken test

import pytest
import torch
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from taiji.language.models import SMOLLM2, resolve_model


@pytest.fixture(scope="session")
def smollm2_tokenizer() -> PreTrainedTokenizerBase:
    """The real tokenizer. The first use on a machine converts the model: half a minute."""
    return AutoTokenizer.from_pretrained(resolve_model(SMOLLM2), local_files_only=True)


@pytest.fixture
def tiny_model(smollm2_tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A Llama of two blocks and width 64 that knows nothing; same weights every time.

    A fresh copy for each test, so that a test may train it.
    """
    config = LlamaConfig(
        vocab_size=len(smollm2_tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=smollm2_tokenizer.bos_token_id,
        eos_token_id=smollm2_tokenizer.eos_token_id,
        pad_token_id=smollm2_tokenizer.pad_token_id,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng():
        torch.manual_seed(17)
        return LlamaForCausalLM(config).eval()
