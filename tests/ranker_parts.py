"""What the tests of the ranking model share: small settings, features and labels of their own."""

import market
import numpy as np

from taiji.config import RankerSection
from taiji.evaluation.metrics import auc
from taiji.ranking.inputs import LanguageFeatures
from taiji.ranking.train import Labels, fit_ranker, predict

NUM_ITEMS = market.NUM_SHELVES * market.NUM_PER_SHELF
SECTION = RankerSection(
    dim=8, hidden=(32,), own_items=10, epochs=4, batch_size=256, learning_rate=5e-3
)


def users_of(pairs):
    return sorted(set(pairs.user_ids))


def random_features(pairs, num_items, seed=0):
    """Codes and neighbours that mean nothing."""
    random, users = np.random.default_rng(seed), users_of(pairs)
    codes = random.integers(4, size=(len(users) + 1, 3)).astype(np.int32)
    neighbour = random.integers(num_items, size=(len(users) + 1, 5)).astype(np.int32)
    vectors = random.normal(size=(len(users) + 1, 6)).astype(np.float32)
    codes[-1], neighbour[-1], vectors[-1] = -1, -1, 0
    return LanguageFeatures(tuple(users), codes, neighbour, num_codes=4, vectors=vectors)


def relabel(labels, chance, seed=0):
    """Clicks by a given chance; half of them convert."""
    random = np.random.default_rng(seed)
    click = (random.random(len(chance)) < chance).astype(np.float32)
    conversion = (random.random(len(chance)) < 0.5).astype(np.float32)
    return Labels(click, click * conversion, labels.ts)


def split_users(pairs):
    """Rows of two halves of the users, so that nobody can be recognised."""
    first = set(users_of(pairs)[::2])
    known = np.array([user in first for user in pairs.user_ids])
    return np.flatnonzero(known), np.flatnonzero(~known)


def auc_for_new_users(pairs, labels, language):
    train, test = split_users(pairs)
    seen = Labels(labels.click[train], labels.conversion[train], labels.ts[train])
    ranker = fit_ranker(pairs.take(train), seen, SECTION, seed=1, language=language)
    return auc(labels.click[test], predict(ranker, pairs.take(test), language).ctr)
