"""Does novelty find a rare good answer behind a common lesser one? A bandit whose best is known.

    python benchmarks/bandit.py --seeds 5      # a minute; 40 seeds without --seeds
    python benchmarks/bandit.py --share 0.05   # a good answer that GRPO finds in some seeds

A policy of 64 answers begins with .3 on one that earns .5 and --share on one that earns 1; the
others earn up to .3. GRPO draws 8 answers a step. An answer is a text of four tokens, which is all
that the bonus of i-MENTOR (`alignment.popo.novelty`) sees of it.

Written down before: with the bonus more seeds end with half of the mass on the good answer, and
sooner, than under GRPO, under GRPO with the best of three entropy bonuses, and under a higher
temperature. Noise of the same range and decay is the control, which must not.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch

from taiji.alignment.popo.advantages import AdvantageRule
from taiji.alignment.popo.novelty import Noise, Novelty, NoveltySettings

ANSWERS, TOKENS, VOCABULARY = 64, 4, 256
LESSER, GOOD = 0, 1
GROUP, STEPS, RATE = 8, 400, 1.0
RESAMPLES = 5000


@dataclass(frozen=True)
class Way:
    """How the policy explores.

    Attributes:
        bonus: Makes what is added to normalised advantages, of a seed.
        entropy: Weight of an entropy bonus in the loss.
        temperature: Of draws and of their log-probabilities.
    """

    bonus: object = None
    entropy: float = 0.0
    temperature: float = 1.0


def novelty(losers_only):
    return lambda seed: Novelty(VOCABULARY, NoveltySettings(1, TOKENS, losers_only, seed=seed))


def noise(losers_only):
    return lambda seed: Noise(losers_only, seed)


WAYS = {
    "GRPO": Way(),
    "entropy .01": Way(entropy=0.01),
    "entropy .03": Way(entropy=0.03),
    "entropy .1": Way(entropy=0.1),
    "temperature 1.5": Way(temperature=1.5),
    "novelty": Way(bonus=novelty(True)),
    "noise": Way(bonus=noise(True)),
    "novelty of all": Way(bonus=novelty(False)),
    "noise of all": Way(bonus=noise(False)),
}


def softmax(logits_A):
    weights_A = np.exp(logits_A - logits_A.max())
    return weights_A / weights_A.sum()


def problem(seed, good_share):
    """First logits, rewards and texts of the answers."""
    random = np.random.default_rng(seed)
    share_A = random.dirichlet(np.ones(ANSWERS))
    share_A[[LESSER, GOOD]] = 0
    share_A *= (1 - 0.3 - good_share) / share_A.sum()
    share_A[[LESSER, GOOD]] = 0.3, good_share
    reward_A = random.uniform(0, 0.3, size=ANSWERS)
    reward_A[[LESSER, GOOD]] = 0.5, 1.0
    tokens_AL = random.integers(VOCABULARY, size=(ANSWERS, TOKENS))
    return np.log(share_A), reward_A, torch.from_numpy(tokens_AL)


def run(seed, way, good_share):
    """Steps until the good answer has half of the mass, `STEPS` if never; and its last share."""
    logits_A, reward_A, tokens_AL = problem(seed, good_share)
    random = np.random.default_rng((seed, 1))
    rule = AdvantageRule(GROUP, "group", "sum_then_normalize")
    bonus = None if way.bonus is None else way.bonus(seed)
    prompt = torch.zeros(GROUP, 1, dtype=torch.int64)
    reached = STEPS
    for step in range(STEPS):
        share_A = softmax(logits_A / way.temperature)
        drawn_G = random.choice(ANSWERS, GROUP, p=share_A)
        mixed_PG = torch.from_numpy(reward_A[drawn_G]).view(1, GROUP)
        advantage_G = rule.combined(mixed_PG.view(-1, 1), torch.ones(1))[0].numpy()
        if bonus is not None:
            texts = {"prompt_ids": prompt, "prompt_mask": torch.ones_like(prompt)}
            texts["completion_ids"] = tokens_AL[drawn_G]
            texts["completion_mask"] = torch.ones_like(texts["completion_ids"])
            advantage_G = advantage_G + bonus(texts, mixed_PG, step).flatten().double().numpy()
        gradient_A = np.bincount(drawn_G, advantage_G, minlength=ANSWERS) / GROUP
        gradient_A -= advantage_G.mean() * share_A
        log_A = np.log(share_A)
        gradient_A -= way.entropy * share_A * (log_A - share_A @ log_A)
        logits_A = logits_A + RATE * gradient_A / way.temperature
        if reached == STEPS and softmax(logits_A)[GOOD] > 0.5:
            reached = step + 1
    return reached, softmax(logits_A)[GOOD]


def interval(values):
    random = np.random.default_rng(0)
    means = values[random.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{values.mean():+8.2f} [{low:+.2f}, {high:+.2f}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--share", type=float, default=0.001, help="of the good answer at first")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for name, way in WAYS.items():
        began = time.perf_counter()
        found[name] = np.array([run(seed, way, args.share) for seed in range(args.seeds)])
        reached, share = found[name].T
        seconds = (time.perf_counter() - began) / args.seeds
        print(
            f"{name:16} finds it {100 * (reached < STEPS).mean():5.1f} %"
            f"  steps {reached.mean():6.1f}  last share {share.mean():.3f}  {seconds:.2f} s a seed",
            flush=True,
        )
    entropies = [name for name in WAYS if name.startswith("entropy")]
    best = min(entropies, key=lambda name: found[name][:, 0].mean())
    print(f"\npaired by seed, 95 % intervals; best entropy bonus: {best}")
    for of in ("novelty", "noise", "novelty of all", "noise of all"):
        for over in ("GRPO", best, "temperature 1.5"):
            reached = [found[name][:, 0] for name in (of, over)]
            finds = 100.0 * ((reached[0] < STEPS).astype(float) - (reached[1] < STEPS))
            print(f"  {of} - {over}: found, points {interval(finds)}; steps", end=" ")
            print(interval(reached[0] - reached[1]))


if __name__ == "__main__":
    main()
