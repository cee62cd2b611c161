"""The ranking model beside FuxiCTR and torch-rechub: training, scoring, and what is learned.

    python benchmarks/ranker.py            some minutes
    python benchmarks/ranker.py --quick    a minute or two, wider spreads

One network for all (`benchmarks/ranker_peers.py`): ESMM with DIN over two sequences of 50 and
100, 20 sparse fields, 298,000 rows of width 16, towers of 256, 128 and 64, batches of 4,096, the
same loss, the same fused Adam, one thread. Ours runs as it is used, `taiji.ranking.model`, once
with DIN's attention and once with the dot product. Variants take turns, step by step; times are
CPU seconds, and each ratio is the median over the rounds. glibc is told to keep its memory: with
its defaults all libraries spend half their time on page faults, the peers more than ours.

AUC is on a synthetic task that hangs on who liked what, of rows that nobody trained on, with an
interval over users. Scoring is of 1,000 candidates for one user: ours looks his sequences up
once, the libraries' layers need a copy for each candidate. The last line is JSON.

The peers come with the extra `bench`.
"""

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from taiji.evaluation.metrics import auc_statistic, bootstrap_draws
from taiji.ranking.model import Batch, CtcvrModel, ModelShape, esmm_loss

KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
ITEMS, CATEGORIES, TASTES = 200_000, 2_000, 20
OTHER_FIELDS = (50_000, 20_000, 10_000, 5_000, 4_000, 2_000, 1_000, 1_000) + (300,) * 10
SHAPE = ModelShape(
    num_dense=4,
    field_rows=(ITEMS, CATEGORIES, *OTHER_FIELDS),
    l3_field=1,
    num_codes=0,
    sub_codes=0,
    own_items=50,
    neighbour_items=100,
    vector_width=0,
    attention="din",
    dim=16,
    hidden=(256, 128, 64),
)
BATCH = 4096
CANDIDATES = 1000
PAIRS_OF_A_USER = 8
OURS = {"taiji, din": "din", "taiji, dot": "dot"}
PEERS = ("FuxiCTR", "torch-rechub")


@dataclass(frozen=True)
class Data:
    batch: Batch
    click: torch.Tensor
    conversion: torch.Tensor
    users: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    if any(os.environ.get(name) != value for name, value in KEEP_MEMORY.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | KEEP_MEMORY)
    torch.set_num_threads(1)
    models = build()
    train, test = draw(20_000 if quick else 160_000, seed=1), draw(20_000, seed=2)
    steps = measure_training(models, train)
    scoring = measure_scoring(models, test, rounds=10 if quick else 40)
    areas = {name: judge(model, test) for name, model in models.items()}
    report(steps, scoring, areas)


def build() -> dict[str, torch.nn.Module]:
    from ranker_peers import FuxiCTR, TorchRechub

    torch.manual_seed(17)
    ours = {
        name: CtcvrModel(replace(SHAPE, attention=attention)) for name, attention in OURS.items()
    }
    return {**ours, "FuxiCTR": FuxiCTR(SHAPE), "torch-rechub": TorchRechub(SHAPE)}


def draw(rows: int, seed: int) -> Data:
    """Users like some categories; so do their sequences, and so do their clicks.

    An item's id mod the number of categories is its category, a category's mod 20 its taste.
    """
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(rows // PAIRS_OF_A_USER), PAIRS_OF_A_USER)
    liked = random.integers(TASTES, size=(user[-1] + 1, 3))
    item = random.integers(2, ITEMS, size=user.size)
    item = np.where(random.random(user.size) < 0.5, of_taste(random, liked, user, 1)[:, 0], item)
    own, neighbour = (
        padded(random, of_taste(random, liked, user, length), length) for length in (50, 100)
    )
    likes = (liked[user] == (category(item) % TASTES)[:, None]).any(axis=1)
    rest = [random.integers(2, high, size=user.size) for high in OTHER_FIELDS]
    dense = random.normal(size=(user.size, SHAPE.num_dense))
    click = random.random(user.size) < sigmoid(2.5 * likes - 3 + 0.5 * dense[:, 0])
    conversion = click & (random.random(user.size) < sigmoid(dense[:, 1] - 0.5 + likes))
    nothing = torch.zeros(user.size, 0)
    batch = Batch(
        dense=torch.tensor(dense, dtype=torch.float32),
        fields=torch.tensor(np.stack([item, category(item), *rest], axis=1)),
        own_items=torch.tensor(own),
        own_l3=torch.tensor(category(own)),
        neighbour_items=torch.tensor(neighbour),
        neighbour_l3=torch.tensor(category(neighbour)),
        codes=nothing.long(),
        vectors=nothing,
    )
    return Data(batch, *(torch.tensor(y, dtype=torch.float32) for y in (click, conversion)), user)


def of_taste(
    random: np.random.Generator, liked: np.ndarray, user: np.ndarray, length: int
) -> np.ndarray:
    """Items of the tastes of each row's user."""
    taste = liked[user[:, None], random.integers(liked.shape[1], size=(user.size, length))]
    return taste + TASTES * random.integers(1, ITEMS // TASTES, size=taste.shape)


def padded(random: np.random.Generator, items: np.ndarray, length: int) -> np.ndarray:
    """About 70 % of each sequence is filled."""
    filled = random.integers(length * 2 // 5, length + 1, size=(len(items), 1))
    return np.where(np.arange(length) < filled, items, 0)


def category(item: np.ndarray) -> np.ndarray:
    """2 and above, 0 for padding; the taste of an item is its own rest by 20."""
    return np.where(item > 0, np.maximum(item % CATEGORIES, 2), 0)


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def take(batch: Batch, rows: torch.Tensor | slice) -> Batch:
    return Batch(**{field.name: getattr(batch, field.name)[rows] for field in fields(Batch)})


def measure_training(models: dict[str, torch.nn.Module], data: Data) -> dict[str, list[float]]:
    """CPU seconds of each step of one epoch after the first step, by variant."""
    optimizers = {
        name: torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)
        for name, model in models.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in models}
    order = torch.randperm(len(data.click), generator=torch.Generator().manual_seed(3))
    for rows in order[: len(order) // BATCH * BATCH].split(BATCH):
        batch, click, conversion = take(data.batch, rows), data.click[rows], data.conversion[rows]
        for name, model in models.items():
            began = time.process_time()
            loss = esmm_loss(model(batch), click, conversion)
            optimizers[name].zero_grad(set_to_none=True)
            loss.backward()
            optimizers[name].step()
            seconds[name].append(time.process_time() - began)
    return {name: steps[1:] for name, steps in seconds.items()}


def measure_scoring(
    models: dict[str, torch.nn.Module], data: Data, rounds: int
) -> dict[str, list[float]]:
    """CPU seconds to score 1,000 candidates for one user, by variant."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    sequences = ("own_items", "own_l3", "neighbour_items", "neighbour_l3")
    with torch.inference_mode():
        for number in range(rounds + 1):
            batch = take(data.batch, slice(number, number + CANDIDATES))
            shared = {name: getattr(batch, name)[:1] for name in sequences}
            copies = {name: one.expand(CANDIDATES, -1).contiguous() for name, one in shared.items()}
            once, copied = replace(batch, **shared), replace(batch, **copies)
            for name, model in models.items():
                model.eval()
                given = once if name in OURS else copied
                began = time.process_time()
                logits = model(given)
                seconds[name].append(time.process_time() - began)
                assert len(logits.ctr) == CANDIDATES
    return {name: all_rounds[1:] for name, all_rounds in seconds.items()}


def judge(model: torch.nn.Module, data: Data) -> tuple[float, float, float]:
    """AUC of pCTCVR, and its 95 % interval over users."""
    model.eval()
    with torch.inference_mode():
        pieces = torch.arange(len(data.click)).split(BATCH)
        scores = torch.cat([model(take(data.batch, rows)).log_ctcvr() for rows in pieces])
    statistic = auc_statistic(data.conversion.numpy(), scores.numpy())
    draws = bootstrap_draws(statistic, data.users, resamples=200, seed=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return statistic(np.ones(len(scores))), float(low), float(high)


def report(
    steps: dict[str, list[float]],
    scoring: dict[str, list[float]],
    areas: dict[str, tuple[float, float, float]],
) -> None:
    print(f"{'':14}{'samples/CPU-s':>27}{'1,000 candidates, CPU-ms':>28}{'CTCVR AUC':>26}")
    for name in steps:
        speeds = [BATCH / second for second in steps[name]]
        millis = [1000 * second for second in scoring[name]]
        area, low, high = areas[name]
        print(
            f"{name:14}{statistics.median(speeds):12,.0f}{spread(speeds, '{:,.0f}'):>15}"
            f"{statistics.median(millis):16.1f}{spread(millis, '{:.1f}'):>12}"
            f"{area:10.4f} [{low:.4f}, {high:.4f}]"
        )
    figures = {
        "train_speedup_same_model": ratio(steps, "taiji, din"),
        "train_speedup_dot": ratio(steps, "taiji, dot"),
        "score_speedup": ratio(scoring, "taiji, din"),
        "score_speedup_dot": ratio(scoring, "taiji, dot"),
        "auc": {name: round(area[0], 4) for name, area in areas.items()},
        "auc_interval_din": [round(bound, 4) for bound in areas["taiji, din"][1:]],
        "rounds": len(steps["FuxiCTR"]),
    }
    print(json.dumps(figures))


def spread(values: list[float], form: str) -> str:
    low, _, high = statistics.quantiles(values, n=4)
    return f"{form.format(low)}-{form.format(high)}"


def ratio(seconds: dict[str, list[float]], ours: str) -> float:
    """How many times faster than the faster peer: median of the rounds' ratios."""
    peer = min(PEERS, key=lambda name: statistics.median(seconds[name]))
    pairs = zip(seconds[peer], seconds[ours], strict=True)
    return round(statistics.median(theirs / own for theirs, own in pairs), 2)


if __name__ == "__main__":
    main()
