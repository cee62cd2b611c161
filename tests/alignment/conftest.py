"""A language of twenty letters, and a model of it small enough to train within a test."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from toy import LETTERS, share_of_a, share_of_b
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.trainer_callback import PrinterCallback

from taiji.alignment import PopoConfig, PopoTrainer


@pytest.fixture(scope="session")
def toy_tokenizer() -> PreTrainedTokenizerFast:
    words = ["<pad>", "<eos>", "<unk>", *LETTERS]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


@pytest.fixture(scope="session")
def toy_model_folder(
    toy_tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    config = LlamaConfig(
        vocab_size=len(toy_tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    folder = tmp_path_factory.mktemp("toy") / "model"
    with torch.random.fork_rng():
        torch.manual_seed(17)
        LlamaForCausalLM(config).save_pretrained(folder)
    toy_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def make_trainer(
    toy_tokenizer: PreTrainedTokenizerFast, toy_model_folder: Path, tmp_path: Path
) -> Callable[..., PopoTrainer]:
    """Builds a trainer of the toy model: two rewards, two micro-batches to a step."""

    def make(
        *,
        rewards: list[Any] | None = None,
        prompts: list[list[int]] | None = None,
        lora: Any = None,
        bonus: Any = None,
        token_factor: Any = None,
        **settings: Any,
    ) -> PopoTrainer:
        model = LlamaForCausalLM.from_pretrained(toy_model_folder)
        config = PopoConfig(
            **{
                "output_dir": str(tmp_path / "out"),
                "per_device_train_batch_size": 4,
                "gradient_accumulation_steps": 2,
                "num_generations": 4,
                "max_completion_length": 8,
                "max_steps": 2,
                "learning_rate": 1e-3,
                "logging_steps": 1,
                "save_strategy": "no",
                "report_to": "none",
                "disable_tqdm": True,
                "use_cpu": True,
                "seed": 17,
                **settings,
            }
        )
        prompts = prompts or [[3 + i, 4 + i, 5 + i] for i in range(6)]
        trainer = PopoTrainer(
            model,
            [share_of_a, share_of_b] if rewards is None else rewards,
            config,
            train_dataset=Dataset.from_dict({"prompt": prompts}),
            processing_class=toy_tokenizer,
            peft_config=lora,
            bonus=bonus,
            token_factor=token_factor,
        )
        trainer.remove_callback(PrinterCallback)
        return trainer

    return make
