"""Scoring chains (Eq. 1) as `score` does it, against the naive loop.

    python benchmarks/perplexity.py                 lengths of recipes/demo.yaml, a few minutes
    python benchmarks/perplexity.py --prompt 2000   long prompts
    python benchmarks/perplexity.py --quick         enough to see that it runs

Both give log P of the answer's tokens under k chains and under none. The naive loop takes them
one by one, computes all logits and a log-softmax everywhere. Ours computes the prompt once, the
branches behind it in one row, and logits where the answer is. They take turns on the same
prompts in one process, ours between two runs of a large matrix product, for the machine's speed
at that moment.

`limit` is the ratio of the operations that either way needs: what sharing and leaving out logits
can save at these lengths. The share of the peak counts the matrix products that ours executes,
the branches' attention as it is computed under the mask; `needed_share` leaves out what the mask
throws away; either is the median of the turns. Seconds are CPU seconds of all threads, which other
work on the machine moves less than the clock; wall figures stand beside them. The last line is
JSON.
"""

import argparse
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import PreTrainedModel

from taiji.language.models import SMOLLM2, load_causal_lm
from taiji.language.prompt import ChatScaffold
from taiji.reasoning import scoring
from taiji.reasoning.perplexity import perplexity
from taiji.reasoning.scoring import ModelScorer, Question

WORDS = ["milk", "bread", "tea", "rice", "soap", "fish", "corn", "salt", "apple", "beans"]
CHAINS = 3
PROMPT, CHAIN, ANSWER = 237, 32, 25  # mean tokens of the demo, tags aside
TURN = 4  # prompts, of which ours makes one batch
MATMUL, PRODUCTS = 1024, 40


@dataclass
class Clock:
    """CPU and wall seconds of each turn."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def time(self, work: Callable[[], object]) -> object:
        cpu, wall = time.process_time(), time.perf_counter()
        result = work()
        self.cpu.append(time.process_time() - cpu)
        self.wall.append(time.perf_counter() - wall)
        return result


def question(scaffold: ChatScaffold, rng: random.Random, prompt: int) -> Question:
    def text(mean: int, spread: float = 0.2) -> str:
        num = round(mean * rng.uniform(1 - spread, 1 + spread))
        return " ".join(rng.choice(WORDS) for _ in range(num))

    answer = text(ANSWER)
    chains = ["", *(text(CHAIN, 0.5) for _ in range(CHAINS))]
    branches = [scaffold.completion_ids(chain, answer) for chain in chains]
    return Question(scaffold.data_ids(text(prompt, 0.1)), branches)


@torch.inference_mode()
def naive(model: PreTrainedModel, asked: Question) -> list[np.ndarray]:
    """One row at a time, all logits, a log-softmax everywhere."""
    found = []
    for branch in asked.branches:
        ids = torch.tensor([[*asked.prompt_ids, *branch.ids]])
        logprobs = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0], dim=-1)
        first = len(asked.prompt_ids) + branch.answer_start
        stop = len(asked.prompt_ids) + branch.answer_stop
        picked = logprobs[first - 1 : stop - 1].gather(1, ids[0, first:stop, None])
        found.append(picked[:, 0].double().numpy())
    return found


def operations(model: PreTrainedModel, tokens: int, logits: int, pairs: int) -> float:
    """Of a forward pass: blocks, head, and attention over `pairs` of tokens that see each other."""
    config = model.config
    head = model.get_output_embeddings().weight.numel()
    tied = model.get_input_embeddings().weight.numel()
    body = model.num_parameters() - tied
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim
    return 2.0 * body * tokens + 2.0 * head * logits + attention * pairs


def needed(model: PreTrainedModel, asked: Question) -> tuple[float, float, float]:
    """Operations of the naive loop, of what must remain, and of what ours executes."""
    prompt = len(asked.prompt_ids)
    lengths = [prompt + len(branch.ids) for branch in asked.branches]
    loop = sum(operations(model, n, n, n * (n + 1) // 2) for n in lengths)
    row, places = scoring._row(asked)
    num, first = len(row.ids), row.prompt_length
    own = [stop - start for start, stop in row.spans]
    of_prompt = first * (first + 1) // 2
    seen = of_prompt + sum(s * first + s * (s + 1) // 2 for s in own)
    under_mask = of_prompt + sum(own) * num
    return (
        loop,
        operations(model, num, len(places), seen),
        operations(model, num, len(places), under_mask),
    )


def measure(num_turns: int, prompt: int) -> dict[str, float]:
    model, tokenizer = load_causal_lm(SMOLLM2)
    scaffold, rng = ChatScaffold(tokenizer), random.Random(17)
    scorer, square = ModelScorer(model), torch.rand(MATMUL, MATMUL)
    clocks = {"naive": Clock(), "ours": Clock(), "matmul": Clock()}
    worst, done = 0.0, np.zeros((num_turns, 3))
    for turn in range(num_turns + 1):
        asked = [question(scaffold, rng, prompt) for _ in range(TURN)]
        slow = clocks["naive"].time(lambda asked=asked: [naive(model, one) for one in asked])
        clocks["matmul"].time(lambda: [square @ square for _ in range(PRODUCTS // 2)])
        fast = clocks["ours"].time(lambda asked=asked: scorer.score(asked))
        clocks["matmul"].time(lambda: [square @ square for _ in range(PRODUCTS // 2)])
        if turn == 0:  # caches and first calls
            clocks = {name: Clock() for name in clocks}
            continue
        for one, left, right in zip(asked, slow, fast, strict=True):
            pairs = zip(left, right, strict=True)
            worst = max([worst, *(abs(perplexity(a) / perplexity(b) - 1) for a, b in pairs)])
            done[turn - 1] += needed(model, one)
    limit = done[:, 0].sum() / done[:, 1].sum()
    figures: dict[str, float] = {}
    for kind in ("cpu", "wall"):
        seconds = {name: getattr(clock, kind) for name, clock in clocks.items()}
        around = np.reshape(seconds["matmul"], (num_turns, 2)).sum(axis=1)
        peak = 2 * PRODUCTS * MATMUL**3 / around
        shares = done / (np.array(seconds["ours"]) * peak)[:, None]
        speedup = sum(seconds["naive"]) / sum(seconds["ours"])
        figures |= {
            f"{kind}_speedup": speedup,
            f"{kind}_share_of_matmul_peak": float(np.median(shares[:, 2])),
            f"{kind}_needed_share": float(np.median(shares[:, 1])),
            f"{kind}_share_of_sharing_limit": speedup / limit,
            f"{kind}_chains_per_second": CHAINS * TURN * num_turns / sum(seconds["ours"]),
            f"{kind}_matmul_gflops": float(np.median(peak)) / 1e9,
        }
    return {"limit": limit, "largest_difference": worst, **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", type=int, default=PROMPT, help="mean tokens of a prompt")
    parser.add_argument("--turns", type=int, default=8, help=f"of {TURN} prompts")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    figures = measure(1 if arguments.quick else arguments.turns, arguments.prompt)
    lengths = f"prompts of {arguments.prompt} tokens, chains of {CHAIN}, answers of {ANSWER}"
    print(f"{lengths}, k = {CHAINS} and none; {torch.get_num_threads()} threads")
    print(f"sharing the prompt and leaving out logits can save {figures['limit']:.2f} times")
    print(f"largest relative difference of a perplexity: {figures['largest_difference']:.1e}")
    for kind in ("cpu", "wall"):
        print(", ".join(f"{n} {v:.3g}" for n, v in figures.items() if n.startswith(kind)))
    short = {name.removeprefix("cpu_"): float(f"{v:.4g}") for name, v in figures.items()}
    print(json.dumps(short))


if __name__ == "__main__":
    main()
