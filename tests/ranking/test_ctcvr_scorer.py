from datetime import timedelta

import numpy as np
import pytest
from weeks import window_start

from taiji.config import RankerSection
from taiji.errors import DataError
from taiji.ranking.ctcvr_scorer import CtcvrScorer
from taiji.ranking.train import fit_ranker

START = window_start("rl")


@pytest.fixture(scope="module")
def scorer(window, asof):
    section = RankerSection(dim=8, hidden=(32,), own_items=10, epochs=4, batch_size=256)
    ranker = fit_ranker(*window("reward"), section, seed=1)
    contexts = {f"example-{n}": (f"u{n:03d}", START) for n in range(40)}
    early = {"early": ("u000", START - timedelta(weeks=30))}
    return CtcvrScorer(ranker, asof, contexts | early)


def test_it_prefers_what_the_user_buys(scorer, asof, world):
    histories = asof.last_items([f"u{n:03d}" for n in range(40)], [START] * 40, 60)
    contexts = [f"example-{n}" for n in range(40)]
    own = scorer.score(contexts, [history[0] for history in histories])
    foreign_shelves = [
        next(item for item in asof.item_ids if item[1] not in {own[1] for own in history})
        for history in histories
    ]
    foreign = scorer.score(contexts, foreign_shelves)
    assert ((own > 0) & (own < 1)).all()
    assert (own > foreign).mean() > 0.95


def test_a_score_does_not_depend_on_its_company(scorer):
    together = scorer.score(["example-3", "example-7"], ["i00", "i21"])
    np.testing.assert_allclose(scorer.score(["example-7"], ["i21"]), together[1:], rtol=1e-5)


def test_the_cut_off_decides_what_is_known(scorer):
    assert scorer.score(["early"], ["i00"]) != scorer.score(["example-0"], ["i00"])


def test_no_pairs_have_no_scores(scorer):
    assert scorer.score([], []).shape == (0,)


def test_unknown_contexts_and_items_are_refused(scorer):
    with pytest.raises(DataError, match="'nobody'"):
        scorer.score(["nobody"], ["i00"])
    with pytest.raises(DataError, match="'i99'"):
        scorer.score(["example-1"], ["i99"])
