"""One process of two: trains the toy with PopoTrainer and compares with the union of all rollouts.

Started by test_popo_parallel.py, once for each process. Prints one line of JSON from the first.
"""

import json
import os
import sys
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from toy import share_of_a, share_of_b
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.distributed import DistributedConfig
from transformers.trainer_callback import PrinterCallback
from trl import GRPOTrainer

from taiji.alignment import PopoConfig, PopoTrainer
from taiji.alignment.gradients import processes
from taiji.alignment.gradients.by_reward import ALONE

PROMPTS = [[3, 4], [5, 6, 7, 8], [9, 10, 11], [12] * 6, [13, 14], [15, 16, 17]]
LORA = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)


def load(folder, way):
    torch.manual_seed(5)
    if way == "fsdp2":
        return LlamaForCausalLM.from_pretrained(
            folder, distributed_config=DistributedConfig(fsdp_size=2)
        )
    model = LlamaForCausalLM.from_pretrained(folder)
    return get_peft_model(model, LORA) if way == "ddp-lora" else model


def full(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


class Reference:
    """Gradients in float64 of the average over both processes' rollouts."""

    def __init__(self, trainer, folder, way):
        self.trainer, self.sharded = trainer, way == "fsdp2"
        self.model = load(folder, "ddp" if way == "fsdp2" else way).double()

    def gradient(self, advantages_of):
        flat = self.alone(advantages_of)
        torch.distributed.all_reduce(flat)
        return flat / 2

    def alone(self, advantages_of):
        """Of this process."""
        trainer = self.trainer
        processes.reshard(trainer)
        state = {name: full(value) for name, value in trainer.model.state_dict().items()}
        self.model.load_state_dict(state)
        self.model.zero_grad()
        forward, loss = trainer._get_per_token_logps_and_entropies, GRPOTrainer._compute_loss
        trainer._get_per_token_logps_and_entropies = self._forward
        try:
            with trainer._silenced():
                for batch in trainer._buffered_inputs:
                    loss(
                        trainer, self.model, {**batch, "advantages": advantages_of(batch).double()}
                    ).backward()
        finally:
            trainer._get_per_token_logps_and_entropies = forward
        return torch.cat([p.grad.flatten() for p in self.model.parameters() if p.requires_grad])

    def unbiased(self):
        """Products of different blocks: micro-batches of one process, or with FSDP2 of both."""
        trainer, batches = self.trainer, self.trainer._buffered_inputs
        parts = []
        for batch in batches:
            trainer._buffered_inputs = [batch]
            alone = [self.alone(lambda b, k=k: b[ALONE][:, k]) for k in range(2)]
            parts.append(torch.stack(alone))
        trainer._buffered_inputs = batches
        parts_BKM = torch.stack(parts)
        if self.sharded:
            torch.distributed.all_reduce(parts_BKM)
            parts_BKM = parts_BKM / 2
        else:
            both = [torch.empty_like(parts_BKM) for _ in range(2)]
            torch.distributed.all_gather(both, parts_BKM)
            parts_BKM = torch.cat(both) / 2
        num = len(parts_BKM)
        pairs = [(i, j) for i in range(num) for j in range(num) if i != j]
        unbiased_KK = sum(parts_BKM[i] @ parts_BKM[j].T for i, j in pairs) * num**2 / len(pairs)
        return unbiased_KK.sum(1).tolist()

    def _forward(self, model, input_ids, attention_mask, logits_to_keep, **_):
        positions = (attention_mask.cumsum(1) - 1).clamp(min=0)
        logits = self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=positions
        ).logits[:, :-1]
        logprobs = torch.log_softmax(logits, dim=-1)
        picked = logprobs.gather(2, input_ids[:, 1:, None]).squeeze(2)[:, -logits_to_keep:]
        return picked, torch.zeros_like(picked), None


def main() -> None:
    folder, out, way, rule, share = sys.argv[1:]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    config = PopoConfig(
        output_dir=out, rule=rule, eta=1.0, per_device_train_batch_size=4,
        gradient_accumulation_steps=2, num_generations=4, max_completion_length=6, max_steps=2,
        learning_rate=1e-2, logging_steps=1, save_strategy="no", report_to="none",
        disable_tqdm=True, use_cpu=True, seed=17, share_prompts=share == "shared",
    )  # fmt: skip
    trainer = PopoTrainer(
        load(folder, way), [share_of_a, share_of_b], config,
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}), processing_class=tokenizer,
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    reference, expected, errors = Reference(trainer, folder, way), [], []
    step, clip = trainer._step_on_gradients, trainer._clip_grad_norm
    final = []

    def spying(rewards_NK):
        g_a, g_b = (reference.gradient(lambda batch, k=k: batch[ALONE][:, k]) for k in range(2))
        total = g_a + g_b
        if rule == "popo_split":  # unbiased: four independent micro-batches, two on each process
            expected.append(reference.unbiased())
        else:
            expected.append([(g_a @ total).item(), (g_b @ total).item()])
        gradients = step(rewards_NK)
        final.append(reference.gradient(lambda batch: batch["advantages"]))
        return gradients

    def checking(model, *args, **kwargs):
        grads = [full(p.grad).flatten() for p in trainer.model.parameters() if p.requires_grad]
        want = final.pop()
        errors.append(((torch.cat(grads).double() - want).norm() / want.norm()).item())
        return clip(model, *args, **kwargs)

    trainer._step_on_gradients, trainer._clip_grad_norm = spying, checking
    trainer.train()
    if os.environ["RANK"] == "0":
        rows = [row for row in trainer.state.log_history if "reward" in row]
        found = [[row["popo/I_share_of_a"], row["popo/I_share_of_b"]] for row in rows]
        kinds = sorted({type(p).__name__ for p in trainer.model.parameters()})
        result = {"found": found, "expected": expected, "errors": errors, "parameters": kinds,
                  "processes": trainer.accelerator.num_processes}  # fmt: skip
        Path(out, "result.json").write_text(json.dumps(result))


main()
