"""Does a trained head find the text that names a hidden taste, and does its reward teach it?

    python benchmarks/rporec.py                # five seeds, five minutes on a busy core
    python benchmarks/rporec.py --steps 1000   # until the policy no longer moves

World W1 (`worlds.SwitchingShoppers`). The prompt shows the late taste. Eight canned texts name a
taste each; the right one names the early taste, which 80 % of the shoppers return to. A student
writes the right one with probability .3 and each other with .1. The head of `language.text_head`
learns from what the student wrote for other users. Then a policy, a table of eight logits for each
pair of tastes, begins as the student is and is trained by GRPO on the head's NDCG.

Written down before: the head with the right text must beat the head on the prompt alone; GRPO must
raise the right text's share above 90 %; a head trained on others' texts, and the reward permuted
within its groups, must not.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch
from worlds import SwitchingShoppers, interval

from taiji.alignment.popo.advantages import AdvantageRule
from taiji.language.text_head import HeadSettings, HeadTexts, fit_head, ndcg_of_true

LEARNERS, PLAYERS = 1500, 1000  # users of each head; users whose prompts the policy answers
LINES, NEGATIVES = 10, 99
RIGHT = 0.3  # the student's share of the right text
PROMPTS, GROUP, RATE = 32, 8, 0.1


@dataclass
class Bench:
    """One draw of the world: two heads' learners, and those who are judged."""

    world: SwitchingShoppers
    random: np.random.Generator
    settings: HeadSettings

    def __post_init__(self):
        users = np.arange(len(self.world.next_N))
        self.first, self.second = users[:LEARNERS], users[LEARNERS : 2 * LEARNERS]
        self.players = users[2 * LEARNERS :]
        self.prompts_ND = self.world.last_lines(LINES).astype(np.float32)
        self.items_ID = self.world.item_ID.astype(np.float32)
        num_items = len(self.items_ID)
        self.negatives = self.random.integers(num_items, size=(len(users), NEGATIVES))
        hit = self.negatives == self.world.next_N[:, None]
        self.negatives[hit] = (self.negatives[hit] + 1) % num_items

    def texts(self, users, taste_N):
        """What users' prompts and texts that name these tastes say; nobody answers."""
        chain_ND = self.world.texts(taste_N, self.random).astype(np.float32)
        unread = np.zeros(len(users), dtype=bool)
        return HeadTexts(self.prompts_ND[users], chain_ND, np.zeros_like(chain_ND), unread)

    def student(self, users):
        """The taste that the untrained student names."""
        early_N = self.world.early_N[users]
        tastes = len(self.world.taste_TD)
        other_N = (early_N + self.random.integers(1, tastes, size=len(users))) % tastes
        return np.where(self.random.random(len(users)) < RIGHT, early_N, other_N)

    def learn(self, users, seed, change=lambda texts: texts):
        texts = change(self.texts(users, self.student(users)))
        return fit_head(texts, self.world.next_N[users], self.items_ID, self.settings, seed)

    def others(self, texts):
        """The control: prompts with the texts of others."""
        return texts.of_others(self.random.permutation(len(texts.readable_N)))

    def ndcg(self, head, users, texts):
        users_NH = head.user_vectors(texts)
        items_IH = head.items(self.items_ID).detach().numpy()
        true_N = (users_NH * items_IH[self.world.next_N[users]]).sum(axis=1)
        others_NK = np.einsum("nh,nkh->nk", users_NH, items_IH[self.negatives[users]])
        return ndcg_of_true(true_N.astype(np.float64), others_NK.astype(np.float64))


class Policy:
    """A softmax over eight texts for each pair of early and late taste, begun as the student is."""

    def __init__(self, world):
        self.world, tastes = world, len(world.taste_TD)
        share = np.full((tastes, tastes, tastes), (1 - RIGHT) / (tastes - 1))
        share[np.arange(tastes), :, np.arange(tastes)] = RIGHT  # early, late, named
        self.logits = torch.tensor(np.log(share), requires_grad=True)
        self.optimizer = torch.optim.Adam([self.logits], lr=RATE)

    def log_shares(self, users):
        return self.logits[self.world.early_N[users], self.world.late_N[users]].log_softmax(dim=1)

    def right_share(self, users):
        with torch.no_grad():
            shares = self.log_shares(users).exp().numpy()
        return shares[np.arange(len(users)), self.world.early_N[users]].mean()

    def step(self, users, named_N, rewards_N):
        rule = AdvantageRule(GROUP, "group", "sum_then_normalize")
        advantages_N, _ = rule.combined(torch.tensor(rewards_N)[:, None], torch.ones(1).double())
        chosen_N = self.log_shares(users)[torch.arange(len(users)), torch.from_numpy(named_N)]
        self.optimizer.zero_grad()
        (-(advantages_N * chosen_N).mean()).backward()
        self.optimizer.step()


def train(bench, head, steps, permuted=False):
    """GRPO on the head's NDCG; the policy that came of it."""
    policy = Policy(bench.world)
    for _ in range(steps):
        users = np.repeat(bench.random.choice(bench.players, PROMPTS, replace=False), GROUP)
        with torch.no_grad():
            shares = policy.log_shares(users).exp().numpy()
        draws = bench.random.random((len(users), 1))
        named_N = (shares.cumsum(axis=1) < draws).sum(axis=1).clip(max=shares.shape[1] - 1)
        rewards_N = bench.ndcg(head, users, bench.texts(users, named_N))
        if permuted:
            rewards_N = bench.random.permuted(rewards_N.reshape(-1, GROUP), axis=1).ravel()
        policy.step(users, named_N, rewards_N)
    return policy


def written(bench, policy):
    """What a policy writes for the players, one draw each."""
    with torch.no_grad():
        shares = policy.log_shares(bench.players).exp().numpy()
    draws = bench.random.random((len(shares), 1))
    return (shares.cumsum(axis=1) < draws).sum(axis=1).clip(max=shares.shape[1] - 1)


def one_seed(seed, steps):
    """Each player's NDCG under each head and text, and the share of the right text."""
    world = SwitchingShoppers.draw(seed, users=2 * LEARNERS + PLAYERS)
    bench = Bench(world, np.random.default_rng(seed + 100), HeadSettings())
    players = bench.players
    head = bench.learn(bench.first, seed)
    second = bench.learn(bench.second, seed + 1)
    alone = bench.learn(bench.first, seed, HeadTexts.prompts_alone)
    misled = bench.learn(bench.first, seed, bench.others)
    right = bench.texts(players, world.early_N[players])
    own = bench.texts(players, bench.student(players))
    ndcg = {
        "right text": bench.ndcg(head, players, right),
        "own texts": bench.ndcg(head, players, own),
        "prompt alone": bench.ndcg(alone, players, right.prompts_alone()),
        "head of others' texts, right text": bench.ndcg(misled, players, right),
        "right text, by another's": bench.ndcg(head, players, bench.others(right)),
    }
    policies = {
        "GRPO on the head": train(bench, head, steps),
        "reward permuted": train(bench, head, steps, permuted=True),
        "head of others' texts": train(bench, misled, steps),
    }
    shares = {name: policy.right_share(players) for name, policy in policies.items()}
    before = Policy(world)
    for name, policy in {"before": before, **policies}.items():
        texts = bench.texts(players, written(bench, policy))
        ndcg[f"second head, {name}"] = bench.ndcg(second, players, texts)
    return ndcg, shares


PAIRS = [
    ("right text", "prompt alone"),
    ("own texts", "prompt alone"),
    ("head of others' texts, right text", "prompt alone"),
    ("right text, by another's", "prompt alone"),
    ("second head, GRPO on the head", "second head, before"),
    ("second head, reward permuted", "second head, before"),
    ("second head, head of others' texts", "second head, before"),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200, help="of GRPO")
    args = parser.parse_args()
    torch.set_num_threads(1)
    began, found = time.perf_counter(), []
    for seed in range(args.seeds):
        found.append(one_seed(seed, args.steps))
        print(f"seed {seed}: {time.perf_counter() - began:.0f} s", flush=True)
    print("\nNDCG of the next item among 99 others")
    for name in found[0][0]:
        print(f"  {name}: {np.mean([ndcg[name].mean() for ndcg, _ in found]):.4f}")
    print("\ndifferences, 95 % intervals over users within seeds")
    for of, over in PAIRS:
        print(f"  {of} - {over}: {interval([ndcg[of] - ndcg[over] for ndcg, _ in found])}")
    print(f"\nshare of the right text, from {RIGHT}, least and most of the seeds")
    for name in found[0][1]:
        shares = [share[name] for _, share in found]
        print(f"  {name}: {np.mean(shares):.3f} [{min(shares):.3f}, {max(shares):.3f}]")


if __name__ == "__main__":
    main()
