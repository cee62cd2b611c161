"""Every way to a gradient against plain float64 autograd, for Eq. 6 and for the update."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from toy import A, B, steps
from transformers import LlamaForCausalLM
from trl import GRPOTrainer

from taiji.alignment.gradients.by_reward import ALONE
from taiji.alignment.popo.batches import ROW, with_whole_groups

# TRL 1.16 calls parts of transformers 5.23 by their old names.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")

LORA = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)


class Reference:
    """Gradients of TRL's loss through a plain forward in float64."""

    def __init__(self, trainer, lora=None):
        self.trainer = trainer
        model = LlamaForCausalLM(trainer.accelerator.unwrap_model(trainer.model).config)
        self.model = get_peft_model(model, lora) if lora else model
        self.model.double()

    def gradient(self, batches, advantages_of, *, beta=None):
        """Of the sum over micro-batches of the loss, as one vector; `beta` in the KL's place."""
        trainer = self.trainer
        self.model.load_state_dict(trainer.model.state_dict())
        self.model.zero_grad()
        forward, metrics = trainer._get_per_token_logps_and_entropies, trainer._metrics
        trainer._get_per_token_logps_and_entropies = self._forward
        trainer._metrics, kept = copy.deepcopy(metrics), trainer.beta
        trainer.beta = kept if beta is None else beta
        try:
            for batch in batches:
                inputs = {n: v.double() if "logps" in n else v for n, v in batch.items()}
                inputs["advantages"] = advantages_of(batch).double()
                GRPOTrainer._compute_loss(trainer, self.model, inputs).backward()
        finally:
            trainer._get_per_token_logps_and_entropies, trainer._metrics = forward, metrics
            trainer.beta = kept
        return torch.cat([p.grad.flatten() for p in self.model.parameters() if p.requires_grad])

    def _forward(self, model, input_ids, attention_mask, logits_to_keep, **_):
        positions = (attention_mask.cumsum(1) - 1).clamp(min=0)
        logits = self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=positions
        ).logits[:, :-1]
        logprobs = torch.log_softmax(logits / self.trainer.temperature, dim=-1)
        picked = logprobs.gather(2, input_ids[:, 1:, None]).squeeze(2)[:, -logits_to_keep:]
        return picked, torch.zeros_like(picked), None


def train_and_compare(trainer, lora=None, tolerance=1e-5):
    """Each step's I, cosine and update against the reference; returns how updates were made."""
    reference = Reference(trainer, lora)
    expected, updates, reused = [], [], []
    step_on_gradients, take_step = trainer._step_on_gradients, trainer._clip_grad_norm
    prepare = trainer._prepare_inputs

    def spying(rewards_NK):
        batches = [dict(batch) for batch in trainer._buffered_inputs]
        windows = len(batches) / trainer.current_gradient_accumulation_steps
        g_a, g_b = (
            reference.gradient(batches, lambda b, k=k: b[ALONE][:, k], beta=0.0) / windows
            for k in range(2)
        )
        total = g_a + g_b
        expected.append(
            (
                (g_a @ total).item(),
                (g_b @ total).item(),
                torch.cosine_similarity(g_a, g_b, 0).item(),
            )
        )
        gradients = step_on_gradients(rewards_NK)
        if windows <= 1 and trainer.num_iterations == 1:
            updates.append(reference.gradient(trainer._buffered_inputs, lambda b: b["advantages"]))
        return gradients

    def preparing(inputs):
        num_steps, batch = len(expected), prepare(inputs)
        if len(expected) > num_steps:
            reused.append(trainer._update is not None)
        return batch

    def checking(model, *args, **kwargs):
        if updates:
            found = torch.cat(
                [p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad]
            )
            want = updates.pop()
            assert (found.double() - want).norm() <= tolerance * want.norm()
        return take_step(model, *args, **kwargs)

    trainer._step_on_gradients, trainer._clip_grad_norm = spying, checking
    trainer._prepare_inputs = preparing
    trainer.train()
    assert expected
    assert not updates, "the update was not looked at"
    logged = [row for row in steps(trainer) if f"popo/I_{A}" in row]
    for row, (i_a, i_b, cos) in zip(logged, expected, strict=True):
        assert row[f"popo/I_{A}"] == pytest.approx(i_a, rel=tolerance)
        assert row[f"popo/I_{B}"] == pytest.approx(i_b, rel=tolerance)
        assert row["popo/cos"] == pytest.approx(cos, abs=tolerance)
    return reused


UNEVEN = [[3, 4], [5, 6, 7, 8], [9, 10, 11], [12] * 6, [13, 14], [15, 16, 17]]


@pytest.mark.parametrize(
    "loss_type", ["grpo", "dapo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"]
)
@pytest.mark.parametrize("share_prompts", [True, False])
def test_alignment_is_exact_for_every_loss(make_trainer, loss_type, share_prompts):
    trainer = make_trainer(
        prompts=UNEVEN,
        loss_type=loss_type,
        beta=0.5,
        learning_rate=1e-2,
        share_prompts=share_prompts,
    )
    train_and_compare(trainer)
    assert steps(trainer)[1]["kl"] > 0  # in the second step the KL has a gradient


WAYS = {
    "full": {},
    "lora": {"lora": LORA},
    "in span": {"multi_objective_aggregation": "normalize_then_sum"},
    "checkpointing": {"gradient_checkpointing": True},
    "more accumulation": {"gradient_accumulation_steps": 4},
    "two updates a generation": {"steps_per_generation": 4},
    "reused rollouts": {"num_iterations": 2, "max_steps": 4},
    "unscaled": {"scale_rewards": "none"},
    "kept apart": {"popo_keep_micro_batches": True, "gradient_accumulation_steps": 3},
    "lora kept apart": {"lora": LORA, "popo_keep_micro_batches": True},
    "single rollouts": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
}


@pytest.mark.parametrize("share_prompts", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_alignment_and_update_are_exact_however_they_are_made(make_trainer, way, share_prompts):
    trainer = make_trainer(
        prompts=UNEVEN, learning_rate=1e-2, share_prompts=share_prompts, **WAYS[way]
    )
    loose = {"tolerance": 3e-5} if way == "lora kept apart" else {}  # fp32 sums of tiny gradients
    reused = train_and_compare(trainer, WAYS[way].get("lora"), **loose)
    if way in ("in span", "unscaled", "kept apart", "lora kept apart"):
        assert all(reused), "the update was free and was paid for"
    if way == "two updates a generation":
        assert not any(reused)


def test_unbiased_products_leave_out_a_micro_batch_with_itself(make_trainer):
    trainer = make_trainer(
        rule="popo_split", gradient_accumulation_steps=3, learning_rate=1e-2, prompts=UNEVEN
    )
    reference, expected = Reference(trainer), []
    inner = trainer._step_on_gradients

    def spying(rewards_NK):
        parts_BKM = torch.stack(
            [
                torch.stack(
                    [reference.gradient([batch], lambda b, k=k: b[ALONE][:, k]) for k in range(2)]
                )
                for batch in trainer._buffered_inputs
            ]
        )
        pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
        unbiased_KK = sum(parts_BKM[i] @ parts_BKM[j].T for i, j in pairs) * 9 / len(pairs)
        expected.append(unbiased_KK.sum(1))
        return inner(rewards_NK)

    trainer._step_on_gradients = spying
    trainer.train()
    assert len(expected) == 2
    for row, (i_a, i_b) in zip(steps(trainer), expected, strict=True):
        assert row[f"popo/I_{A}"] == pytest.approx(i_a.item(), rel=1e-4)
        assert row[f"popo/I_{B}"] == pytest.approx(i_b.item(), rel=1e-4)


def test_micro_batches_hold_whole_groups_in_the_order_drawn():
    rows = [torch.tensor([5, 0, 3, 7]), torch.tensor([1, 4, 2, 6])]
    batches = [{ROW: r, "twice": r * 2, "num": torch.tensor(9)} for r in rows]
    whole = with_whole_groups(batches, 2)
    assert [b[ROW].tolist() for b in whole] == [[4, 5, 0, 1], [2, 3, 6, 7]]
    assert [b["twice"].tolist() for b in whole] == [[8, 10, 0, 2], [4, 6, 12, 14]]
    assert all(b["num"] == 9 for b in whole)
