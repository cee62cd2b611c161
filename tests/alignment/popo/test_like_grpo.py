"""Whatever GRPOTrainer trains PopoTrainer trains: with rule `fixed` to the same weights."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig, PeftModel, get_peft_model
from toy import LETTERS, share_of_a, share_of_b, steps
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification
from transformers.trainer_callback import PrinterCallback
from trl import GRPOTrainer

from taiji.alignment import PopoConfig, PopoTrainer
from taiji.errors import ConfigError, DataError, DivergenceError

# TRL 1.16 calls parts of transformers 5.23 by their old names.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

TEXTS = [LETTERS[i : i + 3] for i in range(8)]
SEQUENCE = {"importance_sampling_level": "sequence"}


def lora():
    return LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


def on_odd_lengths(completions, **_):
    return [len(text) / 8 if len(text) % 2 else None for text in completions]


def never(completions, **_):
    return [None] * len(completions)


async def later(completions, **_):
    return [text.count("c") / 8 for text in completions]


def as_array(completions, **_):
    return np.array([text.count("d") / 8 for text in completions], np.float32)


def as_tensor(completions, **_):
    return torch.tensor([text.count("e") / 8 for text in completions])


# What GRPOTrainer's own tests vary, as far as a text model without tools on one CPU can show it.
FAST = {
    "defaults": {},
    "dapo, KL": {"loss_type": "dapo", "beta": 0.1},
    "two iterations": {"num_iterations": 2, "epsilon_high": 0.28},
    "advantages": {"multi_objective_aggregation": "normalize_then_sum"},
    "adapter": {"lora": lora, "learning_rate": 1.0},
    "bfloat16 weights": {"dtype": torch.bfloat16},
    "some apply": {"rewards": [share_of_a, on_odd_lengths]},
}
SLOW = {
    **{name: {"loss_type": name} for name in ("bnpo", "dr_grpo", "cispo", "sapo", "vespo")},
    "luspo": {"loss_type": "luspo", **SEQUENCE},
    "gspo": SEQUENCE,
    "scale batch": {"scale_rewards": "batch"},
    "scale none": {"scale_rewards": "none"},
    "more updates a generation": {"steps_per_generation": 4},
    "more accumulation": {"gradient_accumulation_steps": 4},
    "one micro-batch": {"gradient_accumulation_steps": 1},
    "groups across micro-batches": {"per_device_train_batch_size": 2},
    "generation batch": {"generation_batch_size": 16},
    "KL, two iterations": {"beta": 0.1, "num_iterations": 2},
    "KL, TRL's correction": {"beta": 0.1, "use_bias_correction_kl": True},
    "reference follows": {"beta": 0.1, "sync_ref_model": True, "ref_model_sync_steps": 1},
    "delta": {"delta": 1.5, "num_iterations": 2},
    "epsilon 0": {"epsilon": 1e-6, "num_iterations": 2},
    "truncated masked": {"mask_truncated_completions": True},
    "all truncated": {"mask_truncated_completions": True, "max_completion_length": 1},
    "high entropy alone": {"top_entropy_quantile": 0.5},
    "entropy bonus": {"entropy_coef": 0.01},
    "adaptive entropy": {"use_adaptive_entropy": True, "entropy_target": 5.0},
    "off-policy mask": {"off_policy_mask_threshold": 0.01, "num_iterations": 2},
    "temperature": {"temperature": 0.7},
    "top k": {"top_k": 5},
    "top p": {"top_p": 0.9},
    "min p": {"min_p": 0.1},
    "repetition": {"repetition_penalty": 1.2},
    "generation arguments": {"generation_kwargs": {"min_new_tokens": 2}},
    "dynamic cache": {"cache_implementation": "dynamic"},
    "static cache": {"cache_implementation": "static"},
    "no cache": {"generation_kwargs": {"use_cache": False}},
    "beams": {"generation_kwargs": {"num_beams": 2}},
    "padded": {"pad_to_multiple_of": 8},
    "in order": {"shuffle_dataset": False},
    "two a group": {"num_generations": 2},
    "eight a group": {"num_generations": 8},
    "checkpointing": {"gradient_checkpointing": True},
    "bfloat16 autocast": {"bf16": True, "tolerance": 1e-2},
    "float16 weights": {"dtype": torch.float16},
    "adapter, KL": {"lora": lora, "beta": 0.1, "learning_rate": 1.0},
    "adapter on bfloat16": {"lora": lora, "dtype": torch.bfloat16, "learning_rate": 1.0},
    "one reward": {"rewards": [share_of_a]},
    "three rewards": {"rewards": [share_of_a, share_of_b, as_array]},
    "weighted": {"reward_weights": [0.3, 0.7]},
    "asynchronous": {"rewards": [share_of_a, later]},
    "arrays and tensors": {"rewards": [as_array, as_tensor]},
    "one never applies": {"rewards": [share_of_a, never]},
    "nothing applies": {"rewards": [never], "still": True},
    "a reward model": {"rewards": [share_of_a, "model"]},
    "a stream": {"stream": True},
    "evaluation": {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 4},
    "clipped gradient": {"max_grad_norm": 1e-3},
    "AdamW": {"optim": "adamw_torch", "learning_rate": 1e-3, "tolerance": 1e-4},
}
OURS = ("rewards", "lora", "dtype", "stream", "tolerance", "still")
CASES = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def dataset(stream):
    if not stream:
        return Dataset.from_dict({"prompt": TEXTS})
    return IterableDataset.from_generator(lambda: ({"prompt": text} for text in TEXTS * 9))


@pytest.fixture
def train(toy_tokenizer, toy_model_folder, tmp_path):
    """Trains the toy by either trainer, and hands it out."""

    def reward_model():
        torch.manual_seed(3)
        config = LlamaConfig.from_pretrained(toy_model_folder, num_labels=1)
        return LlamaForSequenceClassification(config)

    def run(cls, *, model=None, prompts=None, **case):
        own = {name: case.pop(name) for name in OURS if name in case}
        settings = {
            "output_dir": str(tmp_path / "out"), "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 2, "num_generations": 4, "max_completion_length": 6,
            "max_steps": 2, "learning_rate": 0.1, "optim": "sgd", "logging_steps": 1,
            "lr_scheduler_type": "constant", "save_strategy": "no", "report_to": "none",
            "disable_tqdm": True, "use_cpu": True, "seed": 17,
        } | case  # fmt: skip
        if model is None:
            model = LlamaForCausalLM.from_pretrained(
                toy_model_folder, dtype=own.get("dtype", torch.float32)
            )
        rewards = own.get("rewards", [share_of_a, share_of_b])
        torch.manual_seed(5)  # of an adapter
        trainer = cls(
            model,
            [reward_model() if reward == "model" else reward for reward in rewards],
            PopoConfig(**settings),
            train_dataset=prompts or dataset(own.get("stream", False)),
            eval_dataset=dataset(False),
            processing_class=toy_tokenizer,
            reward_processing_classes=[
                toy_tokenizer if reward == "model" else None for reward in rewards
            ],
            peft_config=own["lora"]() if "lora" in own else None,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return trainer

    return run


def vector(model):
    return torch.cat([p.detach().float().flatten() for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize("name", CASES)
def test_with_fixed_weights_it_trains_to_the_weights_of_grpo(train, name):
    case = (FAST | SLOW)[name]
    num = len(case.get("rewards", "ab"))
    even = {"reward_weights": [1 / num] * num} | case  # TRL's own default is 1 each
    theirs = train(GRPOTrainer, rule="fixed", **even)
    ours = train(PopoTrainer, rule="fixed", share_prompts=False, **even)
    started = train(PopoTrainer, rule="fixed", **{**even, "learning_rate": 0.0})
    moved = (vector(theirs.model) - vector(started.model)).norm()
    apart = (vector(ours.model) - vector(theirs.model)).norm()
    assert apart <= case.get("tolerance", 1e-5) * moved
    assert (moved == 0) == case.get("still", name == "all truncated")
    assert ours.state.global_step == theirs.state.global_step == 2


@pytest.mark.parametrize("name", CASES)
def test_with_moving_weights_it_finishes(train, name):
    trainer = train(PopoTrainer, rule="popo", **(FAST | SLOW)[name])
    assert trainer.state.global_step == 2
    assert all(math.isfinite(row["loss"]) for row in steps(trainer))
    assert sum(trainer.weights.values()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("rule", ["popo_split", "mgda", "popo_light"])
@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)]
)
def test_weights_in_half_precision_train_under_every_rule(train, rule, dtype):
    pytest.importorskip("torchjd")
    for share in (True, False):
        trainer = train(PopoTrainer, rule=rule, dtype=dtype, share_prompts=share)
        assert trainer.state.global_step == 2
        assert next(trainer.model.parameters()).dtype == dtype


@pytest.mark.parametrize("rule", ["fixed", "popo", "mgda"])
@pytest.mark.parametrize("aggregation", ["sum_then_normalize", "normalize_then_sum"])
def test_a_reward_that_never_applies_freezes_nothing_and_loses_nothing(train, rule, aggregation):
    pytest.importorskip("torchjd")
    case = {"rewards": [share_of_a, never], "multi_objective_aggregation": aggregation}
    moving = {"eta": 1.0, "weight_normalise": "trace"} if rule == "popo" else {}
    trainer = train(PopoTrainer, rule=rule, **case, **moving)
    still = train(PopoTrainer, rule="fixed", **case, learning_rate=0.0)
    assert (vector(trainer.model) - vector(still.model)).norm() > 0
    if rule != "fixed":
        assert trainer.weights == pytest.approx({"share_of_a": 0.5, "never": 0.5})
    assert "popo/I_never" not in steps(trainer)[0]


def of_task(number, letter):
    def reward(completions, task, **_):
        return [
            text.count(letter) / 4 if own == number else None
            for text, own in zip(completions, task, strict=True)
        ]

    reward.__name__ = f"task_{number}"
    return reward


@pytest.mark.parametrize(
    "settings",
    [
        {"rule": "popo", "eta": 1.0, "weight_normalise": "trace", "weight_max_log_step": 1.0},
        {"rule": "popo_split", "eta": 5.0, "weight_normalise": "trace", "weight_max_log_step": 1.0},
        {"rule": "popo_light", "weight_smoothing": 0.9},
        {"rule": "mgda"},
    ],
)
def test_a_task_that_is_absent_from_a_step_keeps_its_weight_in_it(train, settings):
    """Two tasks, each with a reward of its own; of eight prompts two are of the second."""
    pytest.importorskip("torchjd")
    prompts = Dataset.from_dict({"prompt": TEXTS, "task": [0] * 6 + [1] * 2})
    trainer = train(
        PopoTrainer, prompts=prompts, rewards=[of_task(0, "a"), of_task(1, "b")], max_steps=10,
        learning_rate=0.0, **settings,
    )  # fmt: skip
    before, absent = 0.5, 0
    for row in steps(trainer):
        if row.get("rewards/task_1/mean") is None or math.isnan(row["rewards/task_1/mean"]):
            assert row["popo/w_task_1"] == pytest.approx(before, abs=1e-6)
            absent += 1
        before = row["popo/w_task_1"]
    assert 0 < absent < 10


# -- What is refused, by name ------------------------------------------------------------------


def test_an_adapter_loaded_for_inference_is_refused(train, toy_model_folder, tmp_path):
    model = LlamaForCausalLM.from_pretrained(toy_model_folder)
    get_peft_model(model, lora()).save_pretrained(tmp_path / "adapter")
    for trainable in (False, True):
        loaded = PeftModel.from_pretrained(
            LlamaForCausalLM.from_pretrained(toy_model_folder),
            tmp_path / "adapter",
            is_trainable=trainable,
        )
        if trainable:
            assert train(PopoTrainer, model=loaded).state.global_step == 2
            continue
        with pytest.raises(ConfigError, match=r"none of its weights is trained.*is_trainable"):
            train(PopoTrainer, model=loaded)


@pytest.mark.parametrize("rule", ["popo", "fixed"])
@pytest.mark.parametrize("value", [1e39, -1e308, 10**400])
def test_a_reward_beyond_single_precision_is_refused_by_name(train, rule, value):
    def enormous(completions, **_):
        return [value] * len(completions)

    with pytest.raises(DivergenceError, match=r"step 1: reward enormous: rollout 0 .* up to 3.4e"):
        train(PopoTrainer, rule=rule, rewards=[share_of_a, enormous])


@pytest.mark.parametrize("empty", [[], "", None])
def test_an_empty_prompt_is_refused(train, empty):
    prompts = [empty, *([[3, 4]] * 3 if isinstance(empty, list) else TEXTS[:3])]
    with pytest.raises(DataError, match=r"prompt: row \d+ of the generation is empty"):
        train(PopoTrainer, prompts=Dataset.from_dict({"prompt": prompts}), max_steps=4)


def test_fewer_prompts_than_a_generation_takes_are_refused(train):
    with pytest.raises(DataError, match="1 prompts, and a generation takes 2"):
        train(PopoTrainer, prompts=Dataset.from_dict({"prompt": ["abc"]}))
