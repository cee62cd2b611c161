import ast
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from toy import A, B, share_of_a, steps
from transformers import LlamaForCausalLM
from transformers.trainer_callback import PrinterCallback
from trl import GRPOTrainer

import taiji
from taiji.alignment import PopoTrainer
from taiji.alignment.popo.reference import group_advantages, mix
from taiji.alignment.popo.weights import popo_light_weights, popo_weights

# TRL 1.16 asks transformers 5.23 for a property by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def test_scores_do_not_depend_on_how_many_updates_one_generation_serves(make_trainer):
    one = make_trainer(gradient_accumulation_steps=4, steps_per_generation=4, max_steps=1)
    one.train()  # before the other is built, which seeds anew
    two = make_trainer(gradient_accumulation_steps=2, steps_per_generation=4, max_steps=1)
    two.train()
    assert steps(one)[0][f"popo/I_{A}"] == pytest.approx(steps(two)[0][f"popo/I_{A}"], rel=1e-5)


def test_the_update_uses_the_weights_of_the_same_step(make_trainer):
    trainer = make_trainer(eta=20.0, max_steps=1)
    rewards, used = [], []
    calculate, loss = trainer._calculate_rewards, trainer._compute_loss

    def spy_rewards(*args, **kwargs):
        rewards.append(calculate(*args, **kwargs))
        return rewards[-1]

    def spy_loss(model, inputs):
        used.append(inputs["advantages"])
        return loss(model, inputs)

    trainer._calculate_rewards, trainer._compute_loss = spy_rewards, spy_loss
    trainer.train()

    row = steps(trainer)[0]
    log_weights = popo_weights(
        np.log([0.5, 0.5]), np.array([row[f"popo/I_{A}"], row[f"popo/I_{B}"]]), step_size=20.0
    )
    weights = np.exp(log_weights)
    assert row[f"popo/w_{A}"] == pytest.approx(weights[0], rel=1e-6)
    assert abs(weights[0] - 0.5) > 0.05, "the step is too small to tell w(t) from w(t-1)"
    mixed = mix(rewards[0].double().view(-1, 4, 2), torch.from_numpy(weights))
    want = np.sort(group_advantages(mixed).numpy().ravel())  # TRL shuffles the rollouts
    assert np.sort(torch.cat(used).numpy()) == pytest.approx(want, rel=1e-4, abs=1e-4)
    assert row["reward"] == pytest.approx(mixed.mean().item(), rel=1e-5)


def test_fixed_weights_train_as_trl_does(make_trainer, toy_tokenizer, toy_model_folder):
    # Sharing prompts rounds differently and deals out whole groups; without it, bits are equal.
    ours = make_trainer(rule="fixed", reward_weights=[0.3, 0.7], share_prompts=False)
    ours.train()
    theirs = GRPOTrainer(
        LlamaForCausalLM.from_pretrained(toy_model_folder),
        [reward.__wrapped__ for reward in ours.reward_funcs],
        ours.args,
        train_dataset=Dataset.from_dict({"prompt": ["abc", "bcd", "cde", "def", "efg", "fgh"]}),
        processing_class=toy_tokenizer,
    )
    theirs.remove_callback(PrinterCallback)
    theirs.train()
    for a, b in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert ours.weights == pytest.approx({A: 0.3, B: 0.7})


def test_light_weights_follow_the_rewards_of_the_same_step(make_trainer):
    trainer = make_trainer(rule="popo_light", max_steps=1)
    seen = []
    calculate = trainer._calculate_rewards
    trainer._calculate_rewards = lambda *a, **k: seen.append(calculate(*a, **k)) or seen[-1]
    trainer.train()
    want = popo_light_weights(seen[0].double().numpy().reshape(-1, 4, 2), epsilon=1e-4)
    row = steps(trainer)[0]
    assert [row[f"popo/w_{A}"], row[f"popo/w_{B}"]] == pytest.approx(want, rel=1e-6)
    assert row["reward"] == pytest.approx((seen[0].numpy() @ want).mean(), rel=1e-5)
    assert 0 <= row[f"rewards/{A}/frac_zero_std"] <= 1
    assert row[f"rewards/{A}/group_std"] > 0


def test_tchebycheff_weighs_by_the_gaps_of_the_same_step(make_trainer):
    extremes = {"weight_ideal": {A: 1.0, B: 1.0}, "weight_worst": {A: 0.0, B: 0.0}}
    trainer = make_trainer(
        rule="tchebycheff", reward_weights=[0.7, 0.3], tchebycheff_mu=0.5, max_steps=1, **extremes
    )
    trainer.train()
    row = steps(trainer)[0]
    missing = [0.7 * (1 - row[f"rewards/{A}/mean"]), 0.3 * (1 - row[f"rewards/{B}/mean"])]
    assert [row[f"popo/gap_{A}"], row[f"popo/gap_{B}"]] == pytest.approx(missing, rel=1e-5)
    pull = np.array([0.7, 0.3]) * np.exp(np.array(missing) / 0.5)
    assert [row[f"popo/w_{A}"], row[f"popo/w_{B}"]] == pytest.approx(pull / pull.sum(), rel=1e-5)


@pytest.mark.parametrize("rule", ["popo", "popo_light", "tchebycheff", "fixed"])
def test_a_reward_may_not_apply_to_some_rollouts(make_trainer, rule):
    def sometimes(completions, **_):
        return [None if len(text) % 2 else float(len(text)) for text in completions]

    trainer = make_trainer(rewards=[share_of_a, sometimes], rule=rule)
    trainer.train()
    assert all(math.isfinite(row["popo/w_sometimes"]) for row in steps(trainer))


def test_evaluation_neither_moves_weights_nor_uses_moving_ones(make_trainer):
    trainer = make_trainer(eta=20.0, per_device_eval_batch_size=4)
    trainer.train()
    before = trainer.weights
    metrics = trainer.evaluate(eval_dataset=trainer.train_dataset)
    alone = [metrics[f"eval_rewards/{name}/mean"] for name in (A, B)]
    assert metrics["eval_reward"] == pytest.approx(sum(alone) / 2)
    assert trainer.weights == before
    assert abs(before[A] - 0.5) > 1e-3


@pytest.mark.parametrize(("every", "moved"), [(1, [1, 2, 3, 4]), (2, [1, 3]), (3, [1, 4])])
def test_weights_move_at_every_nth_step(make_trainer, every, moved):
    trainer = make_trainer(weight_every=every, max_steps=4, eta=20.0)
    trainer.train()
    seen = [number for number, row in enumerate(steps(trainer), 1) if f"popo/I_{A}" in row]
    assert seen == moved


def test_advantage_mixing_as_in_gdpo_works_too(make_trainer):
    trainer = make_trainer(multi_objective_aggregation="normalize_then_sum", eta=20.0)
    trainer.train()  # the guard compares our advantages with TRL's at each generation
    assert trainer.weights[A] != 0.5


def test_the_trainer_knows_no_recommender():
    source = Path(taiji.__file__).parent
    todo, seen = ["taiji.alignment.popo.trainer", "taiji.alignment"], set()
    while todo:
        name = todo.pop()
        path = source.joinpath(*name.split(".")[1:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in seen or not path.is_file():
            continue
        seen.add(name)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and "taiji" in node.module:
                todo += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    rooms = {name.split(".")[1] for name in seen if name.count(".")}
    assert rooms == {"alignment", "errors", "language", "rule_settings", "safe_text"}
    language = {name for name in seen if name.startswith("taiji.language.")}
    assert language == {
        "taiji.language.growing_cache",
        "taiji.language.output_head",
        "taiji.language.sharded",
        "taiji.language.tree",
    }
    assert issubclass(PopoTrainer, GRPOTrainer)
