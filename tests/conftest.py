"""Fixtures that several rooms share."""

import gc
import json
import os
import shutil
from pathlib import Path

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

NUM_TOKENS = 4096


def pytest_collection_finish() -> None:
    """What is imported by now stays: no later collection of garbage need look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def whole_smollm2_tokenizer() -> PreTrainedTokenizerBase:
    """The real tokenizer. The first use on a machine converts the model: half a minute."""
    return AutoTokenizer.from_pretrained(resolve_model(SMOLLM2), local_files_only=True)


@pytest.fixture(scope="session")
def smollm2_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """The real one cut to its first 4,096 tokens: same template and control tokens, small heads."""
    folder, whole = tmp_path_factory.mktemp("tokenizer"), resolve_model(SMOLLM2)
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        shutil.copy(whole / name, folder)
    tree = json.loads((whole / "tokenizer.json").read_text(encoding="utf-8"))
    model = tree["model"]
    model["vocab"] = {token: n for token, n in model["vocab"].items() if n < NUM_TOKENS}
    pairs = [merge.split() if isinstance(merge, str) else merge for merge in model["merges"]]
    model["merges"] = [pair for pair in pairs if "".join(pair) in model["vocab"]]
    (folder / "tokenizer.json").write_text(json.dumps(tree), encoding="utf-8")
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.fixture
def tiny_model(smollm2_tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A fresh `untrained_llama` for each test, so that a test may train it."""
    return untrained_llama(smollm2_tokenizer)


@pytest.fixture(scope="session")
def tiny_student(
    tmp_path_factory: pytest.TempPathFactory, smollm2_tokenizer: PreTrainedTokenizerBase
) -> Path:
    """The folder of an `untrained_llama` with the real tokenizer; to be read only."""
    folder = tmp_path_factory.mktemp("student")
    untrained_llama(smollm2_tokenizer).save_pretrained(folder)
    smollm2_tokenizer.save_pretrained(folder)
    return folder


def untrained_llama(smollm2_tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A Llama of two blocks and width 64 that knows nothing; same weights every time."""
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
