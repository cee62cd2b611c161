import math
from pathlib import Path

import numpy as np
import pytest
import torch
from rows import KilledError
from shop import ITEMS, example

from taiji.config import SftSection, TrainingCompute
from taiji.data.item_text import item_text
from taiji.errors import ConfigError, DivergenceError
from taiji.language.prompt import ChatScaffold
from taiji.reasoning.evidence import write_chains
from taiji.reasoning.prompts import student_prompt
from taiji.reasoning.sft import (
    CompletionTrainer,
    StudentRun,
    TrainingRow,
    sft_loss,
    token_mean_loss,
    train_student,
)
from taiji.templates import ENGLISH
from taiji.training.checkpoints import newest_complete


@pytest.fixture(scope="module")
def rows(smollm2_tokenizer):
    scaffold = ChatScaffold(smollm2_tokenizer)
    rows = []
    for number in range(10):
        row, item = example((number, 2), example_id=f"e{number}", profile=""), ITEMS[number]
        (chain,) = write_chains(row, item, 1)
        completion = scaffold.completion_ids(chain, item_text(item)).ids
        rows.append(TrainingRow(scaffold.prompt_ids(student_prompt(row, ENGLISH)), completion))
    return rows


def section(**settings):
    ours = {"batch_size": 2, "learning_rate": 1e-3, "checkpoint_steps": 2}
    return SftSection.model_validate(ours | settings)


def train(model, tokenizer, rows, folder: Path, *, on_step=lambda row, total: None, **settings):
    run = StudentRun(section(**settings), 17, folder)
    return train_student(model, tokenizer, rows, run, on_step)


def logprobs_of(model, row):
    ids = torch.tensor([[*row.prompt_ids, *row.completion_ids]])
    with torch.no_grad():
        all_logprobs = torch.log_softmax(model(ids).logits[0].double(), dim=-1)
    places = range(len(row.prompt_ids), ids.shape[1])
    return np.array([all_logprobs[t - 1, ids[0, t]].item() for t in places])


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(left, right):
    return all(torch.equal(left[name], right[name]) for name in left)


def test_sft_loss_follows_eq_2_by_hand():
    # ln 2 and ln 8 in one sequence, ln 4 in another: (1 + 3 + 2) ln 2 / 2 sequences = 3 ln 2
    rows = [np.log([0.5, 0.125]), np.log([0.25])]
    assert sft_loss(rows) == pytest.approx(3 * math.log(2), abs=1e-12)
    # the same sum over 3 tokens
    assert token_mean_loss(rows) == pytest.approx(2 * math.log(2), abs=1e-12)


LOSSES = {"sequence_sum": sft_loss, "token_mean": token_mean_loss}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("way", ["ours", "trl"])
def test_the_trainers_loss_is_the_one_that_is_asked_for(
    way, loss, monkeypatch, tiny_model, smollm2_tokenizer, rows, tmp_path
):
    if way == "trl":
        monkeypatch.setattr(CompletionTrainer, "_is_plain", lambda self: False)
    expected = LOSSES[loss]([logprobs_of(tiny_model, row) for row in rows])
    steps = []
    train(
        tiny_model,
        smollm2_tokenizer,
        rows,
        tmp_path,
        on_step=lambda row, total: steps.append(row),
        batch_size=len(rows),
        loss=loss,
        trainer={"gradient_accumulation_steps": 2},
    )
    assert [row["loss"] for row in steps] == pytest.approx([expected], rel=1e-5)


def test_our_gradient_is_trls(monkeypatch, tiny_model, smollm2_tokenizer, rows, tmp_path):
    norms = {}
    for loss in ("ours", "trl"):
        if loss == "trl":
            monkeypatch.setattr(CompletionTrainer, "_is_plain", lambda self: False)
        torch.manual_seed(17)
        model = type(tiny_model)(tiny_model.config)
        model.load_state_dict(tiny_model.state_dict())
        seen = []
        train(
            model,
            smollm2_tokenizer,
            rows[:4],
            tmp_path / loss,
            on_step=lambda row, total, seen=seen: seen.append(row["grad_norm"]),
            trainer={"gradient_accumulation_steps": 2},
        )
        norms[loss] = seen
    assert norms["ours"] == pytest.approx(norms["trl"], rel=1e-4)


def test_training_lowers_the_loss_and_reports_each_step(
    tiny_model, smollm2_tokenizer, rows, tmp_path, capsys
):
    before = token_mean_loss([logprobs_of(tiny_model, row) for row in rows])
    seen = []
    train(
        tiny_model,
        smollm2_tokenizer,
        rows,
        tmp_path,
        on_step=lambda row, total: seen.append((row["step"], total)),
        epochs=2.0,
    )
    assert seen == [(step, 10) for step in range(1, 11)]
    assert token_mean_loss([logprobs_of(tiny_model, row) for row in rows]) < before
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("asked", "rounded"), [("auto", False), ("bf16", True)])
def test_a_single_process_learns_in_the_precision_that_is_asked_for(
    asked, rounded, tiny_model, smollm2_tokenizer, rows, tmp_path
):
    exact, losses = sft_loss([logprobs_of(tiny_model, rows[0])]), []
    training = TrainingCompute(mixed_precision=asked)
    run = StudentRun(section(batch_size=1, max_tokens=20), 17, tmp_path, training)
    train_student(
        tiny_model, smollm2_tokenizer, rows[:1], run, lambda row, _: losses.append(row["loss"])
    )
    assert losses[0] == pytest.approx(exact / len(rows[0].completion_ids), rel=0.02)
    assert (abs(losses[0] - exact / len(rows[0].completion_ids)) > 1e-5) is rounded


def test_only_the_last_layers_learn(tiny_model, smollm2_tokenizer, rows, tmp_path):
    before = weights(tiny_model)
    num_trained = train(tiny_model, smollm2_tokenizer, rows, tmp_path, trainable_layers=1)
    changed = {
        name
        for name, value in weights(tiny_model).items()
        if not same({0: value}, {0: before[name]})
    }
    assert changed
    assert all(name.startswith(("model.layers.1.", "model.norm.")) for name in changed)
    assert num_trained == sum(p.numel() for n, p in tiny_model.named_parameters() if n in changed)


def test_a_killed_run_resumes_to_the_very_same_weights(
    tiny_model, smollm2_tokenizer, rows, tmp_path
):
    start = weights(tiny_model)
    straight = []
    train(
        tiny_model,
        smollm2_tokenizer,
        rows,
        tmp_path / "straight",
        on_step=lambda row, total: straight.append(row),
    )
    wanted = weights(tiny_model)

    def kill(row, total):
        if row["step"] == 4:
            raise KilledError

    tiny_model.load_state_dict(start)
    folder = tmp_path / "killed"
    with pytest.raises(KilledError):
        train(tiny_model, smollm2_tokenizer, rows, folder, on_step=kill)
    assert newest_complete(folder) == (folder / "checkpoint-2", 2)
    half_written = folder / "checkpoint-4"
    half_written.mkdir()
    (half_written / "model.safetensors").write_bytes(b"cut")

    tiny_model.load_state_dict(start)
    resumed = []
    train(
        tiny_model,
        smollm2_tokenizer,
        rows,
        folder,
        on_step=lambda row, total: resumed.append(row),
    )
    assert same(weights(tiny_model), wanted)
    assert resumed == straight[2:]


def test_a_run_killed_after_its_last_step_only_loads_its_weights(
    tiny_model, smollm2_tokenizer, rows, tmp_path
):
    start, steps = weights(tiny_model), []
    train(tiny_model, smollm2_tokenizer, rows, tmp_path)
    wanted = weights(tiny_model)
    tiny_model.load_state_dict(start)
    train(
        tiny_model,
        smollm2_tokenizer,
        rows,
        tmp_path,
        on_step=lambda row, total: steps.append(row),
    )
    assert same(weights(tiny_model), wanted)
    assert steps == []


def test_one_whole_checkpoint_is_kept(tiny_model, smollm2_tokenizer, rows, tmp_path):
    train(tiny_model, smollm2_tokenizer, rows, tmp_path)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-5"]


def test_a_value_that_trl_refuses_is_a_configuration_error(
    tiny_model, smollm2_tokenizer, rows, tmp_path
):
    with pytest.raises(ConfigError, match=r"sft\.trainer: refused by TRL"):
        train(tiny_model, smollm2_tokenizer, rows, tmp_path, trainer={"optim": "nonsense"})


def test_a_loss_that_is_not_finite_stops_the_run(tiny_model, smollm2_tokenizer, rows, tmp_path):
    with torch.no_grad():
        tiny_model.get_output_embeddings().weight[7] = float("nan")
    with pytest.raises(DivergenceError, match=r"step 1: .*loss.* not finite"):
        train(tiny_model, smollm2_tokenizer, rows, tmp_path)


@pytest.mark.parametrize("loss", LOSSES)
def test_without_padding_the_losses_are_the_same(
    loss, tiny_model, smollm2_tokenizer, rows, tmp_path
):
    start, losses = weights(tiny_model), {}
    for way, trainer in {"padded": {}, "free": {"padding_free": True}}.items():
        tiny_model.load_state_dict(start)
        seen = losses[way] = []
        train(
            tiny_model,
            smollm2_tokenizer,
            rows[:6],
            tmp_path / way,
            on_step=lambda row, total, seen=seen: seen.append(row["loss"]),
            batch_size=3,
            loss=loss,
            trainer=trainer,
        )
    assert losses["free"] == pytest.approx(losses["padded"], rel=1e-5)
    assert len(losses["free"]) == 2


def test_an_adapter_starts_at_the_model_and_is_merged_into_it(
    tiny_model, smollm2_tokenizer, rows, tmp_path
):
    before = weights(tiny_model)
    expected = token_mean_loss([logprobs_of(tiny_model, row) for row in rows])
    steps = []
    num_trained = train(
        tiny_model,
        smollm2_tokenizer,
        rows,
        tmp_path,
        on_step=lambda row, total: steps.append(row["loss"]),
        batch_size=len(rows),
        epochs=2.0,
        learning_rate=1e-2,
        lora={"rank": 4, "alpha": 8.0, "targets": ["q_proj", "down_proj"]},
    )
    after = weights(tiny_model)
    assert steps[0] == pytest.approx(expected, abs=1e-5)
    assert token_mean_loss([logprobs_of(tiny_model, row) for row in rows]) < expected
    assert after.keys() == before.keys()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    layers = [f"model.layers.{n}" for n in (0, 1)]
    assert changed == {
        f"{layer}.{name}.weight"
        for layer in layers
        for name in ("self_attn.q_proj", "mlp.down_proj")
    }
    # rank x (in + out) for 64 x 64 and 128 x 64, in two blocks
    assert num_trained == 2 * 4 * (128 + 192)


@pytest.mark.slow
def test_an_adapter_resumes_to_the_very_same_weights(tiny_model, smollm2_tokenizer, rows, tmp_path):
    start, lora = weights(tiny_model), {"rank": 2}
    train(tiny_model, smollm2_tokenizer, rows, tmp_path / "straight", lora=lora)
    wanted = weights(tiny_model)

    def kill(row, total):
        if row["step"] == 4:
            raise KilledError

    killed = type(tiny_model)(tiny_model.config)  # an adapter hangs in a model that was killed
    killed.load_state_dict(start)
    with pytest.raises(KilledError):
        train(killed, smollm2_tokenizer, rows, tmp_path / "killed", on_step=kill, lora=lora)
    fresh = type(tiny_model)(tiny_model.config)
    fresh.load_state_dict(start)
    train(fresh, smollm2_tokenizer, rows, tmp_path / "killed", lora=lora)
    assert same(weights(fresh), wanted)


def test_modules_that_are_not_there_are_named(tiny_model, smollm2_tokenizer, rows, tmp_path):
    with pytest.raises(ConfigError, match=r"sft\.lora\.targets: .*no_such_proj"):
        train(tiny_model, smollm2_tokenizer, rows, tmp_path, lora={"targets": ["no_such_proj"]})
