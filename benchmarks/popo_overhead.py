"""What POPO costs beside plain TRL GRPO: the training part, the whole step, peak memory.

    python benchmarks/popo_overhead.py              SmolLM2-135M and a tiny model, minutes
    python benchmarks/popo_overhead.py --tiny       the tiny model alone
    python benchmarks/popo_overhead.py --only shared_exact shared_8x     these and their peers

Same model, prompts, group size, completion length and optimiser; variants take turns in one
process, with a learning rate of 0, so that all see the same weights. The training part is a
step without its generation. Times are CPU seconds of all threads: other work on the machine
moves them less than the clock. Peak memory is that of a process of its own for each variant.
The last line is JSON with ratios to plain TRL: below 1 is cheaper than plain TRL.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import GRPOTrainer

from taiji.alignment import PopoConfig, PopoTrainer
from taiji.language.models import load_causal_lm, resolve_model

SMOLLM2 = "smollm2-135m-instruct"
GROUP = 4
PROMPTS = 2  # to a step, each a micro-batch of one group
GDPO = {"multi_objective_aggregation": "normalize_then_sum"}


@dataclass(frozen=True)
class Variant:
    """One way to take a step.

    Attributes:
        prompt: Tokens of a prompt; every completion has 64.
        trl: Plain TRL in the place of PopoTrainer.
    """

    prompt: int = 64
    lora: bool = False
    trl: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


ALONE = {"share_prompts": False}
APART = {"popo_keep_micro_batches": True}
VARIANTS = {
    "plain": Variant(trl=True, settings={"rule": "fixed"}),
    "light": Variant(settings={"rule": "popo_light", **ALONE}),
    "full_span": Variant(settings={"rule": "popo", **GDPO}),
    "full_eq9": Variant(settings={"rule": "popo", **APART}),
    "plain_lora": Variant(trl=True, lora=True, settings={"rule": "fixed"}),
    "lora": Variant(lora=True, settings={"rule": "popo", **APART}),
    "plain_long": Variant(prompt=256, trl=True, settings={"rule": "fixed"}),
    "shared_exact": Variant(prompt=256, settings={"rule": "popo", **APART}),
    "shared_lean": Variant(prompt=256, settings={"rule": "popo"}),
    "plain_8x": Variant(prompt=512, trl=True, settings={"rule": "fixed"}),
    "shared_8x": Variant(prompt=512, settings={"rule": "popo", **APART}),
    "plain_long_lora": Variant(prompt=256, trl=True, lora=True, settings={"rule": "fixed"}),
    "shared_lora": Variant(prompt=256, lora=True, settings={"rule": "popo"}),
}
PEERS = {
    "light": "plain",
    "full_span": "plain",
    "full_eq9": "plain",
    "lora": "plain_lora",
    "shared_exact": "plain_long",
    "shared_lean": "plain_long",
    "shared_8x": "plain_8x",
    "shared_lora": "plain_long_lora",
}


def first(completions: list[str], **_: Any) -> list[float]:
    return [float(len(set(text.split()))) for text in completions]


def second(completions: list[str], **_: Any) -> list[float]:
    return [text.count("e") / (1 + len(text)) for text in completions]


class Clock(TrainerCallback):
    """CPU seconds of each step, and of the generation in it."""

    def __init__(self, trainer: GRPOTrainer) -> None:
        self.whole: list[float] = []
        self.generation: list[float] = []
        generate = trainer._generate_single_turn

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return generate(*args, **kwargs)
            finally:
                self.generation.append(time.process_time() - began)

        trainer._generate_single_turn = timed

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._began = time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.whole.append(time.process_time() - self._began)


def load(tiny: bool) -> LlamaForCausalLM:
    if not tiny:
        return load_causal_lm(SMOLLM2)[0]
    torch.manual_seed(17)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=49152,
            hidden_size=64,
            intermediate_size=1024,
            num_hidden_layers=8,
            num_attention_heads=4,
            tie_word_embeddings=True,
        )
    )


def build(variant: Variant, model: Any, folder: str) -> tuple[GRPOTrainer, Clock]:
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(SMOLLM2))
    config = PopoConfig(
        output_dir=folder,
        max_steps=1,
        learning_rate=0.0,
        optim="sgd",
        per_device_train_batch_size=GROUP,
        gradient_accumulation_steps=PROMPTS,
        num_generations=GROUP,
        max_completion_length=64,
        generation_kwargs={"min_new_tokens": 64},
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=17,
        **variant.settings,
    )
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(1000, 40_000, (PROMPTS, variant.prompt), generator=generator)
    kwargs = {
        "train_dataset": Dataset.from_dict({"prompt": tokenizer.batch_decode(ids)}),
        "processing_class": tokenizer,
    }
    kind = GRPOTrainer if variant.trl else PopoTrainer
    trainer = kind(model, [first, second], config, **kwargs)
    trainer.remove_callback(PrinterCallback)
    clock = Clock(trainer)
    trainer.add_callback(clock)
    return trainer, clock


def models(names: list[str], tiny: bool) -> dict[bool, Any]:
    """One model for all variants of full training, one for all of LoRA."""
    found: dict[bool, Any] = {}
    for lora in {VARIANTS[name].lora for name in names}:
        model = load(tiny)
        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        adapter = LoraConfig(r=8, target_modules=targets)
        found[lora] = get_peft_model(model, adapter) if lora else model
    return found


def measure(names: list[str], tiny: bool, rounds: int, folder: str) -> dict[str, float]:
    """Ratios of medians, by key."""
    shared = models(names, tiny)
    runs = {n: build(VARIANTS[n], shared[VARIANTS[n].lora], f"{folder}/{n}") for n in names}
    for number in range(rounds + 1):
        for name, (trainer, clock) in runs.items():
            trainer.train()
            if number == 0:  # caches
                clock.whole.clear()
                clock.generation.clear()
            else:
                print(f"round {number} {name}: {clock.whole[-1]:.1f} s", flush=True)
    seconds = defaultdict(dict)
    print(f"\n{'tiny' if tiny else 'SmolLM2-135M'}: CPU seconds, median (spread)")
    for name, (_, clock) in runs.items():
        train = [w - g for w, g in zip(clock.whole, clock.generation, strict=True)]
        seconds[name] = {"train": statistics.median(train), "step": statistics.median(clock.whole)}
        spread = f"{min(train):.2f} to {max(train):.2f}"
        took = seconds[name]
        print(f"{name:16} train {took['train']:7.2f} ({spread})  whole step {took['step']:7.2f}")
    ratios = {
        f"{name}_{part}": round(seconds[name][part] / seconds[peer][part], 3)
        for name, peer in PEERS.items()
        if name in names
        for part in ("train", "step")
    }
    if "shared_exact" in names:
        ratios["shared_step"] = ratios.pop("shared_exact_step")
    return ratios


def peak_gib(name: str, tiny: bool) -> float:
    """Of a process that takes two steps of one variant."""
    command = [sys.executable, __file__, "--peak", name, *(["--tiny"] if tiny else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def run_alone(name: str, tiny: bool, folder: str) -> None:
    variant = VARIANTS[name]
    trainer, _ = build(variant, models([name], tiny)[variant.lora], folder)
    trainer.train()
    trainer.train()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="the tiny model alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS), metavar="NAME")
    parser.add_argument("--peak", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.peak:
            run_alone(arguments.peak, arguments.tiny, folder)
            return
        wanted = {*arguments.only, *(PEERS[name] for name in arguments.only)}
        names = [name for name in VARIANTS if name in wanted]
        tiny = measure(names, True, arguments.rounds, folder)
        ratios = {f"tiny_{key}": value for key, value in tiny.items()}
        if not arguments.tiny:
            ratios |= measure(names, False, arguments.rounds, folder)
    peaks = {name: peak_gib(name, arguments.tiny) for name in names}
    print("\npeak GiB of a process of its own")
    for name, peak in peaks.items():
        print(f"{name:16} {peak:6.2f}")
    ratios |= {
        f"{name}_memory": round(peaks[name] / peaks[peer], 3)
        for name, peer in PEERS.items()
        if name in names
    }
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
