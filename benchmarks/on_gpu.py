"""Everything that was never run on a GPU, on the day that one is at hand; under eight minutes.

    python benchmarks/on_gpu.py                 SmolLM2; skips with a word without a GPU
    python benchmarks/on_gpu.py --cpu --tiny    its own plumbing, on a CPU and a tiny model

Each check is a process of its own with a time limit, so that one that crashes or hangs costs the
others nothing. Ends in a table of what passed, with its figures; the last line is JSON.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PROMPT_TOKENS, COMPLETION_TOKENS, GROUP, STEPS = 512, 64, 4, 3
CHECK_SECONDS = {"sft": 60, "popo": 90, "overhead": 120, "colocate": 120, "compile": 60, "vllm": 90}

Figures = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpu", action="store_true", help="without a GPU, to try the script")
    parser.add_argument("--tiny", action="store_true", help="a model of two blocks")
    parser.add_argument("--only", nargs="*", choices=CHECKS, default=list(CHECKS))
    parser.add_argument("--check", choices=CHECKS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.check:
        print(json.dumps(CHECKS[chosen.check](chosen.tiny)))
        return
    import torch

    if not torch.cuda.is_available() and not chosen.cpu:
        print("on_gpu: no GPU here: nothing was checked")
        print(json.dumps({"skipped": "no GPU"}))
        return
    results = {name: run(name, chosen) for name in chosen.only}
    print(f"\n{'check':<10} {'result':<8} {'seconds':>7}  figures")
    for name, found in results.items():
        figures = ", ".join(f"{key} {value}" for key, value in found["figures"].items())
        print(f"{name:<10} {found['result']:<8} {found['seconds']:>7.1f}  {figures}")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    print(json.dumps({"device": device, "checks": results}))
    sys.exit(any(found["result"] == "failed" for found in results.values()))


def run(name: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """One check in its own process."""
    flags = ["--tiny"] if chosen.tiny else []
    began = time.monotonic()
    result, figures = "failed", Figures()
    try:
        done = subprocess.run(
            [sys.executable, __file__, "--check", name, *flags],
            capture_output=True, text=True, timeout=CHECK_SECONDS[name], check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        figures = {"why": f"took more than {CHECK_SECONDS[name]} s"}
    else:
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            figures = {"why": last[:160]}
        else:
            figures = json.loads(done.stdout.strip().splitlines()[-1])
            result = "skipped" if "skipped" in figures else "passed"
    print(f"{name}: {result}", flush=True)
    return {"result": result, "seconds": time.monotonic() - began, "figures": figures}


def load(tiny: bool) -> tuple[Any, Any]:
    """The student, where and how the product would load it."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from taiji.language.models import SMOLLM2, load_causal_lm, resolve_model

    if not tiny:
        return load_causal_lm(SMOLLM2)
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(SMOLLM2), local_files_only=True)
    torch.manual_seed(17)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return LlamaForCausalLM(config).to(device).eval(), tokenizer


def prompts(num: int, tokens: int = PROMPT_TOKENS) -> list[list[int]]:
    return [[100 + (7 * p + 3 * t) % 900 for t in range(tokens)] for p in range(num)]


def peak_gib() -> float:
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**30, 3) if torch.cuda.is_available() else 0.0


def sft(tiny: bool) -> Figures:
    """SFT steps in bfloat16 mixed precision with checkpointing, as the defaults have it."""
    from taiji.config import SftSection
    from taiji.reasoning.sft import StudentRun, TrainingRow, train_student

    model, tokenizer = load(tiny)
    rows = [TrainingRow(ids, ids[:COMPLETION_TOKENS]) for ids in prompts(16)]
    losses = []
    section = SftSection(batch_size=4, learning_rate=1e-4, epochs=2.0)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run = StudentRun(section, 17, Path(folder))
        train_student(model, tokenizer, rows, run, lambda row, _: losses.append(row["loss"]))
        seconds = time.perf_counter() - began
    assert losses[-1] < losses[0], f"the loss does not fall: {losses}"
    return {
        "first_loss": round(losses[0], 4),
        "last_loss": round(losses[-1], 4),
        "seconds_a_step": round(seconds / len(losses), 3),
        "peak_gib": peak_gib(),
    }


def _word_share(word: int) -> Callable[..., list[float]]:
    def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [sum(i % 5 == word for i in ids) / max(1, len(ids)) for ids in completion_ids]

    reward.__name__ = f"share_{word}"
    return reward


def trainer(tiny: bool, folder: str, **settings: Any) -> Any:
    from datasets import Dataset

    from taiji.alignment import PopoConfig, PopoTrainer

    model, tokenizer = load(tiny)
    ours = {
        "output_dir": folder, "per_device_train_batch_size": GROUP, "num_generations": GROUP,
        "gradient_accumulation_steps": 2, "max_completion_length": COMPLETION_TOKENS,
        "max_steps": STEPS, "learning_rate": 1e-5, "logging_steps": 1, "save_strategy": "no",
        "report_to": "none", "disable_tqdm": True, "seed": 17,
    }  # fmt: skip
    data = Dataset.from_dict({"prompt": prompts(8)})
    rewards = [_word_share(0), _word_share(1)]
    config = PopoConfig(**(ours | settings))
    return PopoTrainer(model, rewards, config, train_dataset=data, processing_class=tokenizer)


def popo(tiny: bool) -> Figures:
    """Eq. 6 with shared prompts against the same without, and the weights that come of it."""
    figures: Figures = {}
    found = {}
    for name, shared in (("shared", True), ("alone", False)):
        with tempfile.TemporaryDirectory() as folder:
            made = trainer(tiny, folder, rule="popo", eta=1.0, share_prompts=shared, bf16=False)
            made.train()
            rows = [row for row in made.state.log_history if "popo/I_share_0" in row]
            found[name] = [row["popo/I_share_0"] for row in rows]
    assert all(math.isfinite(value) for value in found["shared"])
    first, other = found["shared"][0], found["alone"][0]
    figures["relative_difference_of_I"] = f"{abs(first - other) / abs(other):.2e}"
    assert abs(first - other) <= 1e-3 * abs(other), found
    return figures | {"peak_gib": peak_gib()}


def overhead(tiny: bool) -> Figures:
    """A step of exact POPO beside TRL's own, both as they come."""
    seconds = {}
    for name, settings in {"plain": {"rule": "fixed", "share_prompts": False}, "popo": {}}.items():
        with tempfile.TemporaryDirectory() as folder:
            made = trainer(tiny, folder, **settings)
            began = time.perf_counter()
            made.train()
            seconds[name] = (time.perf_counter() - began) / STEPS
    return {
        "seconds_a_step": {name: round(value, 3) for name, value in seconds.items()},
        "ratio": round(seconds["popo"] / seconds["plain"], 2),
        "peak_gib": peak_gib(),
    }


def colocate(tiny: bool) -> Figures:
    """Rollouts by vLLM in the trainer's own process."""
    import torch

    if find_spec("vllm") is None or not torch.cuda.is_available():
        return {"skipped": "needs vllm and a GPU"}
    settings = {"use_vllm": True, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": 0.3}
    with tempfile.TemporaryDirectory() as folder:
        made = trainer(tiny, folder, **settings)
        began = time.perf_counter()
        made.train()
    return {"seconds_a_step": round((time.perf_counter() - began) / STEPS, 3)}


def compile(tiny: bool) -> Figures:
    """`score.compile` against the plain scorer."""
    import numpy as np

    from taiji.language.prompt import ChatScaffold
    from taiji.language.scoring import ModelScorer, Question, compiled_scorer

    model, tokenizer = load(tiny)
    scaffold = ChatScaffold(tokenizer)
    branches = [scaffold.completion_ids(f"It is due {n}.", "Milk; Dairy") for n in range(3)]
    questions = [Question(ids, branches) for ids in prompts(8, 256)]
    figures, scores = {}, {}
    for name, make in (("plain", ModelScorer), ("compiled", compiled_scorer)):
        scorer = make(model)
        scorer.score(questions)
        began = time.perf_counter()
        scores[name] = scorer.score(questions)
        figures[f"{name}_seconds"] = round(time.perf_counter() - began, 3)
    pairs = zip(scores["plain"], scores["compiled"], strict=True)
    worst = max(np.abs(a - b).max() for one, two in pairs for a, b in zip(one, two, strict=True))
    assert worst < 0.1, f"log-probabilities differ by {worst}"
    return figures | {"worst_difference": f"{worst:.1e}"}


def vllm(tiny: bool) -> Figures:
    """The same greedy texts by vLLM and by Transformers."""
    import torch

    if find_spec("vllm") is None or not torch.cuda.is_available():
        return {"skipped": "needs vllm and a GPU"}
    from taiji.config import TransformersEngine, VllmEngine
    from taiji.language.engines import open_generator
    from taiji.language.generate import Sampling
    from taiji.language.models import SMOLLM2
    from taiji.language.prompt import Prompt, Segment

    asked = [Prompt("Be brief.", (Segment(f"What goes with item {n}?"),)) for n in range(64)]
    engines = {
        "here": TransformersEngine(dtype="float32"),
        "vllm": VllmEngine(kind="vllm", dtype="float32", gpu_memory_share=0.4),
    }
    texts, figures = {}, {}
    for name, engine in engines.items():
        generator = open_generator(engine, SMOLLM2, name=name)
        began = time.perf_counter()
        replies = generator.generate(asked, 1, Sampling(COMPLETION_TOKENS, 0.0, 17))
        figures[f"{name}_seconds"] = round(time.perf_counter() - began, 2)
        texts[name] = [reply.text for (reply,) in replies]
    same = sum(a == b for a, b in zip(texts["here"], texts["vllm"], strict=True))
    return figures | {"same_texts": f"{same} of {len(asked)}"}


CHECKS: dict[str, Callable[[bool], Figures]] = {
    "sft": sft,
    "popo": popo,
    "overhead": overhead,
    "colocate": colocate,
    "compile": compile,
    "vllm": vllm,
}

if __name__ == "__main__":
    main()
