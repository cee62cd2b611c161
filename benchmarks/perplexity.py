"""Scoring chains (Eq. 1) as `score` does it, against the naive loop.

    python benchmarks/perplexity.py                 lengths of recipes/demo.yaml, ten minutes
    python benchmarks/perplexity.py --prompt 2000   long prompts
    python benchmarks/perplexity.py --no-compile    where there is no C++ compiler
    python benchmarks/perplexity.py --quick         enough to see that it runs

Both give log P of the answer's tokens under k chains and under none. The naive loop takes them
one by one, computes all logits and a log-softmax everywhere. Ours computes the prompt once, the
branches behind it in one row, and logits where the answer is; `compiled` does so after
`score.compile`. They take turns on the same prompts in one process, as many as `score` takes at a
time. Between our batches a large matrix product is timed, since a machine's speed drifts.

`limit` is the ratio of the operations that either way needs: what sharing and leaving out logits
can save at these lengths. The share of the peak is that of the operations which the products beside
each batch would have made in its time. It counts what ours executes, attention as it is computed
chunk by chunk; `needed_share` leaves out what the mask throws away. Seconds are CPU seconds of all
threads, which other work on the machine moves less than the clock; wall figures stand beside them.
The last line is JSON; `compiled_` begins the figures of the compiled way.
"""

import argparse
import json
import random
import time
from itertools import chain, pairwise

import numpy as np
import torch
from transformers import PreTrainedModel

from taiji.language import scoring, tree
from taiji.language.models import SMOLLM2, load_causal_lm
from taiji.language.prompt import ChatScaffold
from taiji.language.scoring import ModelScorer, Question, compiled_scorer
from taiji.reasoning.perplexity import perplexity

Array = np.ndarray
Scores = list[list[Array]]

WORDS = ["milk", "bread", "tea", "rice", "soap", "fish", "corn", "salt", "apple", "beans"]
CHAINS = 3
PROMPT, CHAIN, ANSWER = 237, 32, 25  # mean tokens of the demo, tags aside
TURN = 32  # prompts, as many as the stage gives to its scorer
MATMUL, PRODUCTS = 1024, 10
KINDS = ("cpu", "wall")


class Clock:
    """Seconds of each lap, by `KINDS`."""

    def __init__(self) -> None:
        self.laps: list[list[float]] = []

    def start(self) -> None:
        self._started = time.process_time(), time.perf_counter()

    def stop(self) -> None:
        now = time.process_time(), time.perf_counter()
        self.laps.append([b - a for a, b in zip(self._started, now, strict=True)])


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
    stops = [*range(tree._CHUNK, num, tree._CHUNK), num]
    in_chunks = sum((b - a) * b for a, b in pairwise([0, *stops]))
    return (
        loop,
        operations(model, num, len(places), seen),
        operations(model, num, len(places), in_chunks),
    )


class Beside:
    """Scoring with a matrix product before and after each batch: laps of both, batch by batch."""

    def __init__(self, scorer: ModelScorer) -> None:
        self._scorer, self._square = scorer, torch.rand(MATMUL, MATMUL)
        self.work, self.products = Clock(), Clock()

    def score(self, asked: list[Question]) -> Scores:
        self._multiply()
        self.work.start()
        return self._scorer.score(asked, self._after_batch)

    def _after_batch(self, _done: int, _all: int) -> None:
        self.work.stop()
        self._multiply()
        self.work.start()

    def _multiply(self) -> None:
        self.products.start()
        for _ in range(PRODUCTS):
            self._square @ self._square
        self.products.stop()


def measure(num_turns: int, num_prompts: int, length: int, *, compiled: bool) -> dict[str, float]:
    model, tokenizer = load_causal_lm(SMOLLM2)
    scorer = (compiled_scorer if compiled else ModelScorer)(model)
    stances = {"ours": "force_eager"} | ({"compiled": "default"} if compiled else {})
    ways = {way: Beside(scorer) for way in stances}
    scaffold, rng, loop = ChatScaffold(tokenizer), random.Random(17), Clock()
    first = question(scaffold, rng, length)  # for caches and first calls
    with torch.compiler.set_stance("force_eager"):
        naive(model, first)
        scorer.score([first])
    batches, done, worst = [], np.zeros(3), dict.fromkeys(ways, 0.0)
    for _ in range(num_turns):
        asked = [question(scaffold, rng, length) for _ in range(num_prompts)]
        batches.append(len([*scoring._batches(asked)]))
        done += np.sum([needed(model, one) for one in asked], axis=0)
        with torch.compiler.set_stance("force_eager"):
            loop.start()
            expected = [naive(model, one) for one in asked]
            loop.stop()
        for way, beside in ways.items():
            with torch.compiler.set_stance(stances[way]):
                found = beside.score(asked)
            worst[way] = max(worst[way], difference(expected, found))
    figures = {"limit": done[0] / done[1]}
    for way, beside in ways.items():
        prefix = "" if way == "ours" else f"{way}_"
        figures[f"{prefix}largest_difference"] = worst[way]
        chains = CHAINS * num_prompts * num_turns
        figures |= figures_of(beside, np.sum(loop.laps, axis=0), batches, done, chains, prefix)
    return figures


def difference(expected: Scores, found: Scores) -> float:
    """The largest relative difference of a perplexity."""
    pairs = zip(chain.from_iterable(expected), chain.from_iterable(found), strict=True)
    return max(abs(perplexity(b) / perplexity(a) - 1) for a, b in pairs)


def figures_of(
    beside: Beside, loop: Array, batches: list[int], done: Array, chains: int, prefix: str
) -> dict[str, float]:
    """Of one way, by kind of seconds."""
    work = np.array(beside.work.laps)
    # Each turn has one product more than it has batches: every batch lies between two of them.
    turns = np.split(np.array(beside.products.laps), np.cumsum([n + 1 for n in batches])[:-1])
    around = np.concatenate([(laps[:-1] + laps[1:]) / 2 for laps in turns])
    peak = 2 * PRODUCTS * MATMUL**3 / around  # operations a second, batch by batch
    speedup, share = loop / work.sum(axis=0), done[:, None] / (work * peak).sum(axis=0)
    found = {
        "speedup": speedup,
        "share_of_matmul_peak": share[2],
        "needed_share": share[1],
        "share_of_sharing_limit": speedup * done[1] / done[0],
        "chains_per_second": chains / work.sum(axis=0),
        "matmul_gflops": np.median(peak, axis=0) / 1e9,
    }
    return {
        f"{kind}_{prefix}{name}": float(values[column])
        for column, kind in enumerate(KINDS)
        for name, values in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", type=int, default=PROMPT, help="mean tokens of a prompt")
    parser.add_argument("--turns", type=int, default=3, help="of each way")
    parser.add_argument("--prompts", type=int, default=TURN, help="in a turn")
    parser.add_argument("--quick", action="store_true", help="one turn of two prompts")
    compiling = {"action": argparse.BooleanOptionalAction, "default": True}
    parser.add_argument("--compile", **compiling, help="measure score.compile, too")
    arguments = parser.parse_args()
    turns, prompts = (1, 2) if arguments.quick else (arguments.turns, arguments.prompts)
    figures = measure(turns, prompts, arguments.prompt, compiled=arguments.compile)
    lengths = f"prompts of {arguments.prompt} tokens, chains of {CHAIN}, answers of {ANSWER}"
    print(f"{lengths}, k = {CHAINS} and none; {torch.get_num_threads()} threads")
    print(f"sharing the prompt and leaving out logits can save {figures['limit']:.2f} times")
    for kind in KINDS:
        print(", ".join(f"{n} {v:.3g}" for n, v in figures.items() if n.startswith(kind)))
    short = {name.removeprefix("cpu_"): float(f"{v:.4g}") for name, v in figures.items()}
    print(json.dumps(short))


if __name__ == "__main__":
    main()
