"""GBPO on a bandit whose truth is known: reward reached, and the largest gradient on the way.

    python benchmarks/gbpo.py --seeds 20

64 answers, the policy a softmax over their logits. One answer is good (reward 1), rare (p = .01);
the others pay a quarter of the time or less. Each batch, 8 groups of 16 answers, is used for three
updates, of which two are off-policy; 201 updates by plain gradient ascent. `grpo` and `dapo` clip
the ratio (.2 and .2, .28), `cispo` holds it at 1 on both halves and lets it carry no gradient;
`scaled` is grpo whose negative advantages are multiplied by the mean factor that GBPO gave them.
Differences to each are paired by seed, 95 % intervals by Student's t. The last line is JSON.
"""

import argparse
import json

import numpy as np
import torch
from kaml import interval

from taiji.alignment.popo.gbpo import gbpo_factor

ANSWERS, GROUPS, SIZE, BATCHES, EPOCHS = 64, 8, 16, 67, 3
RARE, RATES = 0.01, (2.0, 8.0, 32.0)
METHODS = ("grpo", "dapo", "cispo", "scaled", "gbpo")


def factor_of(method, logp, old, advantage, scale):
    """What multiplies A * grad log pi of each answer, and of `scaled` the constant."""
    ratio = (logp - old).exp()
    match method:
        case "gbpo":
            return gbpo_factor(logp, old, advantage)
        case "cispo":
            return ratio.clamp_max(1.0)
        case _:
            low, high = 0.8, 1.28 if method == "dapo" else 1.2
            free = torch.where(advantage >= 0, ratio <= high, ratio >= low)
            constant = scale if method == "scaled" else 1.0
            return ratio * free * torch.where(advantage < 0, constant, 1.0)


def train(method, rate, seed, scale=1.0):
    random = torch.Generator().manual_seed(seed)
    pays = 0.25 * torch.rand(ANSWERS, generator=random, dtype=torch.float64)
    pays[0] = 1.0
    logits = torch.randn(ANSWERS, generator=random, dtype=torch.float64)
    rest = torch.logsumexp(logits[1:], 0)
    logits[0] = rest + np.log(RARE / (1 - RARE))
    reached, largest, factors, entropy = [], 0.0, [], []
    for _ in range(BATCHES):
        drawn = torch.multinomial(logits.softmax(0), GROUPS * SIZE, True, generator=random)
        paid = (
            torch.rand(drawn.shape, generator=random, dtype=torch.float64) < pays[drawn]
        ).double()
        groups = paid.view(GROUPS, SIZE)
        spread = groups.std(dim=1, keepdim=True) + 1e-4
        advantage = ((groups - groups.mean(dim=1, keepdim=True)) / spread).flatten()
        old = logits.log_softmax(0)[drawn]
        for _ in range(EPOCHS):
            chances = logits.softmax(0)
            logp = chances.log()[drawn]
            shape = (-1, 1)
            factor = factor_of(
                method, logp.view(shape), old.view(shape), advantage.view(shape), scale
            )
            weight = factor.flatten() * advantage
            gradient = torch.zeros(ANSWERS, dtype=torch.float64)
            gradient.index_add_(0, drawn, weight)
            gradient = (gradient - weight.sum() * chances) / drawn.numel()
            factors += factor.flatten()[advantage < 0].tolist()
            largest = max(largest, float(gradient.norm()))
            logits = logits + rate * gradient
            chances = logits.softmax(0)
            reached.append(float(chances @ pays))
            entropy.append(float(-(chances * chances.clamp_min(1e-300).log()).sum()))
    return {
        "reward": float(np.mean(reached)),
        "last": reached[-1],
        "good": float(logits.softmax(0)[0]),
        "largest": largest,
        "entropy": float(np.mean(entropy)),
        "negative": float(np.mean(factors)),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    seeds = range(parser.parse_args().seeds)
    torch.set_num_threads(1)
    result = {}
    for rate in RATES:
        found = {method: [] for method in METHODS}
        for seed in seeds:
            ours = train("gbpo", rate, seed)
            found["gbpo"].append(ours)
            for method in METHODS[:-1]:
                found[method].append(train(method, rate, seed, scale=ours["negative"]))
        print(
            f"step size {rate:g}: reward over all updates, at the end, p(good) at the end, "
            "largest gradient, entropy, mean factor of negatives; seeds that lost the good answer"
        )
        for method, of in found.items():
            means = {name: float(np.mean([one[name] for one in of])) for name in of[0]}
            lost = sum(one["good"] < RARE for one in of)
            print(f"  {method:8}" + "".join(f"{x:9.4f}" for x in means.values()) + f"{lost:5d}")
            over = {
                name: interval([o[name] - m[name] for o, m in zip(found["gbpo"], of, strict=True)])
                for name in ("reward", "last", "largest")
            }
            result[f"{method}, {rate:g}"] = means | {"lost": lost, "gbpo_minus": over}
            if method != "gbpo":
                print(
                    f"  {'gbpo -':>8} "
                    + "  ".join(
                        f"{k} {a:+.4f} [{b:+.4f}, {c:+.4f}]" for k, (a, b, c) in over.items()
                    )
                )
        print()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
