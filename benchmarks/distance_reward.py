"""OneLoc's place reward on a policy whose near answers are known.

    python benchmarks/distance_reward.py --seeds 5

20 kinds of users and 200 items in 20 categories lie about 8 towns of a region of 100 km; CTCVR is
known and has nothing to do with places. 30 past visits of each user, drawn by CTCVR and nearness,
say where the user usually is and how far visits are (the product's own functions). A policy, one
softmax for each kind of user, is trained by GRPO on the mean of preference (Eq. 4) and distance,
8 users a step, 8 answers each. `untouched` is the policy before; `sorted` lets it draw 8 answers
and takes the one of most exp(-d / d0) x CTCVR; the control learns from places permuted within each
category. Shown: mean distance of the answers in km; place reward, CTCVR and the mixed reward as
shares of what the best answers have; differences with 95 % by Student's t over seeds. The last
line is JSON.
"""

import numpy as np
from value_reward import CATEGORIES, ITEMS, USERS, best_of_eight, run, softmax, train

from taiji.alignment.rewards.distance import DistanceReward, haversine_km, usual_km, usual_places
from taiji.alignment.rewards.normalisers import fit_normaliser

TOWNS, VISITS, REGION_KM, TOWN_KM, REACH_KM = 8, 30, 50.0, 3.0, 15.0
KM_OF_DEGREE = 111.195


def scattered(random, town_T2, number):
    """Places about towns, as latitude and longitude near 50 degrees north."""
    town_N2 = town_T2[random.integers(TOWNS, size=number)]
    north_N, east_N = (town_N2 + TOWN_KM * random.normal(size=(number, 2))).T / KM_OF_DEGREE
    return np.stack([50 + north_N, 10 + east_N / np.cos(np.radians(50))], axis=1)


def km_between(from_U2, to_I2):
    rows = [haversine_km(np.broadcast_to(place, to_I2.shape), to_I2) for place in from_U2]
    return np.stack(rows)


def world(seed):
    random = np.random.default_rng((seed, 7))
    town_T2 = random.uniform(-REGION_KM, REGION_KM, size=(TOWNS, 2))
    home_U2, item_I2 = scattered(random, town_T2, USERS), scattered(random, town_T2, ITEMS)
    category_I = np.arange(ITEMS) % CATEGORIES
    taste_UC = random.normal(size=(USERS, CATEGORIES))
    logit_UI = -3 + taste_UC[:, category_I] + 0.5 * random.normal(size=(USERS, ITEMS))
    ctcvr_UI = 1 / (1 + np.exp(-logit_UI))
    visited_UI = ctcvr_UI * np.exp(-km_between(home_U2, item_I2) / REACH_KM)
    visits_UV = [random.choice(ITEMS, size=VISITS, p=row / row.sum()) for row in visited_UI]
    permuted_I2 = item_I2.copy()
    for category in range(CATEGORIES):
        own = np.flatnonzero(category_I == category)
        permuted_I2[own] = item_I2[random.permutation(own)]
    start_UI = ctcvr_UI.mean(axis=0) * 20 + 0.3 * random.normal(size=(USERS, ITEMS))
    return ctcvr_UI, item_I2, permuted_I2, np.concatenate(visits_UV), start_UI


def reward_of(usual_U2, item_I2, km):
    usual = {str(user): tuple(place) for user, place in enumerate(usual_U2)}
    return DistanceReward(usual, {str(n): tuple(place) for n, place in enumerate(item_I2)}, km)


def one_seed(seed, kind, steps):
    ctcvr_UI, item_I2, permuted_I2, visits, start_UI = world(seed)
    owner = np.repeat(np.arange(USERS), VISITS)
    usual_U2 = usual_places(owner, item_I2[visits], USERS)
    scale_km = usual_km(owner, item_I2[visits], USERS)
    km_UI = km_between(usual_U2, item_I2)
    near_UI, preference = np.exp(-km_UI / scale_km), fit_normaliser(kind, ctcvr_UI.ravel())
    mixed_UI = 0.5 * near_UI + 0.5 * preference.apply(ctcvr_UI)
    right, wrong = (reward_of(usual_U2, places, scale_km) for places in (item_I2, permuted_I2))
    untouched_UI = softmax(start_UI)
    policies = {
        "untouched": untouched_UI,
        "sorted": best_of_eight(untouched_UI, near_UI * ctcvr_UI, seed),
        "trained": train(right, preference, ctcvr_UI, start_UI, seed, steps),
        "places permuted": train(wrong, preference, ctcvr_UI, start_UI, seed, steps),
    }
    shares = {"near": near_UI, "ctcvr": ctcvr_UI, "mix": mixed_UI}
    return {
        name: {
            measure: float((p_UI * of_UI).sum(axis=1).mean() / of_UI.max(axis=1).mean())
            for measure, of_UI in shares.items()
        }
        | {"km": float((p_UI * km_UI).sum(axis=1).mean()), "d0": scale_km}
        for name, p_UI in policies.items()
    }


if __name__ == "__main__":
    run(one_seed, ("km", "near", "ctcvr", "mix"), seeds=5, steps=1200)
