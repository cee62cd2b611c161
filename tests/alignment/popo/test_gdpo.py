import pytest
import torch
from datasets import Dataset
from toy import A, B
from transformers import LlamaForCausalLM
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from taiji.alignment.popo.advantages import AdvantageRule

# TRL 1.16 asks transformers 5.23 for a property by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

GDPO = "normalize_then_sum"


def test_gdpo_by_hand():
    # Groups of two. Reward 1: (0, 2) and (5, 5): scaled to -+1 / sqrt 2 and 0. Reward 2: (1, 0)
    # and (0, 3): +-1 / sqrt 2 and -+1 / sqrt 2. Mixed with .25 and .75, times sqrt 2:
    # (.5, -.5, -.75, .75), mean 0, variance (.25 + .25 + .5625 + .5625) / 3 / 2.
    rewards = torch.tensor([[0.0, 1.0], [2.0, 0.0], [5.0, 0.0], [5.0, 3.0]])
    got, flat = AdvantageRule(2, "group", GDPO).combined(rewards, torch.tensor([0.25, 0.75]))
    mixed = torch.tensor([0.5, -0.5, -0.75, 0.75]) / 2**0.5
    want = mixed / (1.625 / 6) ** 0.5
    assert torch.allclose(got, want, atol=1e-3)
    assert not flat.any()


def test_fixed_weights_of_advantages_are_trls_own_gdpo(
    make_trainer, toy_tokenizer, toy_model_folder, tmp_path
):
    chosen = {"multi_objective_aggregation": GDPO, "reward_weights": [0.3, 0.7]}
    ours = make_trainer(rule="fixed", share_prompts=False, **chosen)
    ours.train()
    shared = ("per_device_train_batch_size", "gradient_accumulation_steps", "num_generations")
    also = ("max_completion_length", "max_steps", "learning_rate", "logging_steps", "seed")
    theirs = GRPOTrainer(
        LlamaForCausalLM.from_pretrained(toy_model_folder),
        [reward.__wrapped__ for reward in ours.reward_funcs],
        GRPOConfig(
            output_dir=str(tmp_path / "theirs"),
            loss_type=ours.args.loss_type,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            dataloader_pin_memory=False,
            **chosen,
            **{name: getattr(ours.args, name) for name in (*shared, *also)},
        ),
        train_dataset=Dataset.from_dict({"prompt": ["abc", "bcd", "cde", "def", "efg", "fgh"]}),
        processing_class=toy_tokenizer,
    )
    theirs.remove_callback(PrinterCallback)
    theirs.train()
    for a, b in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert ours.weights == pytest.approx({A: 0.3, B: 0.7})
