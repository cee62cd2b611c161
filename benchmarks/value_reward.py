"""OneLoc's GMV reward on a policy whose best answers are known.

    python benchmarks/value_reward.py --seeds 10 --normaliser rank --steps 1200

20 kinds of users, 200 items in 20 categories with log-normal prices and known CTCVR, dear items
converting less. A policy, one softmax for each kind of user, is trained by GRPO on the mean of the
rewards for preference (Eq. 4) and for value, 8 users a step, 8 answers each. Shown: expected
value and CTCVR of its answers, as shares of what the best answers have. `untouched` is the policy
before; `sorted` lets it draw 8 answers and takes the one of most CTCVR x price; the control learns
from prices permuted within each category. `mix` is how much of the mixed reward's best is reached.
The last line is JSON.
"""

import argparse
import json

import numpy as np
from kaml import interval

from taiji.alignment.rewards.normalisers import fit_normaliser
from taiji.alignment.rewards.reward import Rollout
from taiji.alignment.rewards.value import Prices, ValueReward

USERS, ITEMS, CATEGORIES, PROMPTS, GROUP, RATE = 20, 200, 20, 8, 8, 4.0


class Known:
    """CTCVR of user and item, as a preference scorer says it."""

    def __init__(self, ctcvr_UI):
        self.ctcvr_UI = ctcvr_UI

    def score(self, context_ids, item_ids):
        return self.ctcvr_UI[[int(c) for c in context_ids], [int(i) for i in item_ids]]


def rollout(user, item):
    return Rollout(str(user), "", "ok", "", str(item), "exact", 1.0, 0.0, None, 1.0)


def world(seed):
    random = np.random.default_rng(seed)
    price_I = np.exp(random.normal(1.5, 1.0, ITEMS))
    category_I = np.arange(ITEMS) % CATEGORIES
    taste_UC = random.normal(size=(USERS, CATEGORIES))
    logit_UI = -3 + taste_UC[:, category_I] + 0.5 * random.normal(size=(USERS, ITEMS))
    ctcvr_UI = 1 / (1 + np.exp(-(logit_UI - 0.4 * (np.log(price_I) - 1.5))))
    permuted_I = price_I.copy()
    for category in range(CATEGORIES):
        own = np.flatnonzero(category_I == category)
        permuted_I[own] = price_I[random.permutation(own)]
    start_UI = ctcvr_UI.mean(axis=0) * 20 + 0.3 * random.normal(size=(USERS, ITEMS))
    return ctcvr_UI, price_I, permuted_I, start_UI


def reward_of(ctcvr_UI, price_I, kind):
    pool_N = (ctcvr_UI * price_I).ravel()
    prices = Prices({str(i): float(p) for i, p in enumerate(price_I)}, float(np.median(price_I)))
    return ValueReward(Known(ctcvr_UI), prices, fit_normaliser(kind, pool_N))


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def train(value, preference, ctcvr_UI, start_UI, seed, steps):
    random, logits_UI = np.random.default_rng((seed, 1)), start_UI.copy()
    for _ in range(steps):
        users = random.integers(USERS, size=PROMPTS)
        chances_PI = softmax(logits_UI[users])
        for user, chances_I in zip(users, chances_PI, strict=True):
            items = random.choice(ITEMS, size=GROUP, p=chances_I)
            paid = np.array(value([rollout(user, item) for item in items]))
            mixed = 0.5 * paid + 0.5 * preference.apply(ctcvr_UI[user, items])
            advantage = (mixed - mixed.mean()) / (mixed.std(ddof=1) + 1e-4)
            gradient = np.zeros(ITEMS)
            np.add.at(gradient, items, advantage)
            logits_UI[user] += RATE * (gradient - advantage.sum() * chances_I) / (PROMPTS * GROUP)
    return softmax(logits_UI)


def best_of_eight(untouched_UI, worth_UI, seed):
    """The policy that draws a group of the untouched one's answers and takes the worthiest."""
    random, best_UI = np.random.default_rng((seed, 2)), np.zeros_like(untouched_UI)
    for user in range(USERS):
        for _ in range(200):
            drawn = random.choice(ITEMS, size=GROUP, p=untouched_UI[user])
            best_UI[user, drawn[worth_UI[user, drawn].argmax()]] += 1 / 200
    return best_UI


def one_seed(seed, kind, steps):
    ctcvr_UI, price_I, permuted_I, start_UI = world(seed)
    worth_UI, preference = ctcvr_UI * price_I, fit_normaliser(kind, ctcvr_UI.ravel())
    value, wrong = (reward_of(ctcvr_UI, prices_I, kind) for prices_I in (price_I, permuted_I))
    mixed_UI = 0.5 * value.normaliser.apply(worth_UI) + 0.5 * preference.apply(ctcvr_UI)
    untouched = softmax(start_UI)
    policies = {
        "untouched": untouched,
        "sorted": best_of_eight(untouched, worth_UI, seed),
        "trained": train(value, preference, ctcvr_UI, start_UI, seed, steps),
        "prices permuted": train(wrong, preference, ctcvr_UI, start_UI, seed, steps),
    }
    return {
        name: {
            measure: float((p_UI * of_UI).sum(axis=1).mean() / of_UI.max(axis=1).mean())
            for measure, of_UI in (("value", worth_UI), ("ctcvr", ctcvr_UI), ("mix", mixed_UI))
        }
        | {"price": float((p_UI * price_I).sum(axis=1).mean())}
        for name, p_UI in policies.items()
    }


def run(one_seed, measures, seeds, steps):
    """The whole script: seeds as asked, each policy's figures and what training has over it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--normaliser", choices=["quantile", "log", "rank"], default="quantile")
    parser.add_argument("--steps", type=int, default=steps)
    asked = parser.parse_args()
    found = [one_seed(seed, asked.normaliser, asked.steps) for seed in range(asked.seeds)]
    result = {}
    for name in found[0]:
        means = {key: interval([one[name][key] for one in found]) for key in found[0][name]}
        over = {
            key: interval([one["trained"][key] - one[name][key] for one in found])
            for key in measures
        }
        result[name] = means | {"trained_minus": over}
        print(f"{name:16}" + "  ".join(f"{k} {a:.3f}" for k, (a, _, _) in means.items()))
        told = (f"{k} {a:+.3f} [{b:+.3f}, {c:+.3f}]" for k, (a, b, c) in over.items())
        print(f"{'':16}trained - it: " + "  ".join(told))
    print(json.dumps(result))


if __name__ == "__main__":
    run(one_seed, ("value", "mix"), seeds=10, steps=300)
