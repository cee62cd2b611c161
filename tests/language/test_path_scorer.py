import numpy as np
import pytest
import torch

from taiji.errors import DataError
from taiji.language.path_scorer import (
    Histories,
    PathScorer,
    PathSettings,
    fit_path_scorer,
    info_nce,
)

SMALL = PathSettings(dim=8, attention_heads=2, negatives=8, epochs=30, batch_size=32)
SIZES = (3, 9)


def told(num=300, seed=0):
    """Users of three tastes whose lines show which, and who take an item of their taste."""
    random = np.random.default_rng(seed)
    taste_N = random.integers(3, size=num)
    lines_NLD = np.repeat(np.eye(3, 6, dtype=np.float32)[taste_N][:, None], 4, axis=1)
    lines_NLD += 0.1 * random.normal(size=lines_NLD.shape).astype(np.float32)
    paths_NB = np.stack([taste_N, taste_N * 3 + random.integers(3, size=num)], axis=1)
    return Histories(lines_NLD, np.ones((num, 4), dtype=bool)), paths_NB


def test_info_nce_by_hand():
    # e^1 of e^1 + e^0, the third left out as it is the true one: -ln .731059 = .313262
    scores = torch.tensor([[1.0, 0.0, 5.0]])
    loss = info_nce(scores, torch.tensor([[False, False, True]]))
    assert loss.item() == pytest.approx(0.313262, abs=1e-6)


def test_the_scorer_learns_prefixes_of_every_depth():
    histories, paths_NB = told()
    scorer = fit_path_scorer(histories, paths_NB, SIZES, SMALL, seed=1)
    fresh, wanted_NB = told(100, seed=5)
    for depth, size in enumerate(SIZES):
        scores_NC = scorer.scores(fresh, depth, np.tile(np.arange(size), (100, 1)))
        best_N = scores_NC.argmax(axis=1) // 3**depth
        assert (best_N == wanted_NB[:, 0]).mean() > 0.9


def test_lines_that_are_not_there_do_not_count():
    histories, _ = told(4)
    scorer = PathScorer(6, SIZES, SMALL).eval()
    there = histories.there_NL.copy()
    there[:, 2:] = False
    changed = histories.lines_NLD.copy()
    changed[:, 2:] = 9.0
    prefixes = np.tile(np.arange(3), (4, 1))
    one = scorer.scores(Histories(histories.lines_NLD, there), 0, prefixes)
    assert np.allclose(one, scorer.scores(Histories(changed, there), 0, prefixes), atol=1e-6)
    assert not np.allclose(one, scorer.scores(histories, 0, prefixes))


def test_one_seed_is_one_scorer():
    histories, paths_NB = told(40)
    prefixes = np.tile(np.arange(3), (40, 1))
    one, again = (fit_path_scorer(histories, paths_NB, SIZES, SMALL, seed=1) for _ in range(2))
    assert np.array_equal(one.scores(histories, 0, prefixes), again.scores(histories, 0, prefixes))


def test_too_few_users_are_refused():
    histories, paths_NB = told(5)
    with pytest.raises(DataError, match="5 users"):
        fit_path_scorer(histories, paths_NB, SIZES, SMALL, seed=1)
