"""A log that knows clicks alone: one task, and no word of conversions."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from ranker_parts import SECTION
from torch.nn import functional

from taiji.config import BoostingSection
from taiji.errors import DataError
from taiji.evaluation.metrics import auc
from taiji.evaluation.ranking_figures import Exposed, Outcome, comparison_figures
from taiji.ranking.gradient_boosting import GradientBoosting, load_boosted
from taiji.ranking.inputs import NO_LANGUAGE
from taiji.ranking.model import Logits, esmm_loss
from taiji.ranking.train import Labels, fit_ranker, load_ranker, predict, save_ranker
from taiji.schema import EXPOSURES


def clicks_of(labels):
    """As `Labels.from_exposures` reads exposures whose conversion nobody knows."""
    return Labels(labels.click, np.ones_like(labels.click), labels.ts, "click")


def exposures(conversions):
    rows = [
        {"user_id": "u", "item_id": "i", "ts": 0, "placement": "", "click": n % 2, "conversion": c}
        for n, c in enumerate(conversions)
    ]
    return pa.Table.from_pylist(rows, EXPOSURES)


def test_the_goal_is_found_in_the_labels():
    click = Labels.from_exposures(exposures([None, None]))
    assert click.goal == "click"
    assert (click.click * click.conversion).tolist() == click.click.tolist() == [0, 1]
    assert Labels.from_exposures(exposures([0, 1])).goal == "conversion"
    assert Labels.from_exposures(EXPOSURES.empty_table()).goal == "conversion"


def test_the_loss_is_that_of_the_click_alone():
    logit, click = torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0])
    by_hand = (np.log(2) + np.log1p(np.exp(2))) / 2
    assert esmm_loss(Logits(logit, None), click, torch.ones(2)).item() == pytest.approx(by_hand)
    assert torch.allclose(Logits(logit, None).log_no_ctcvr(), functional.logsigmoid(-logit))
    assert torch.allclose(Logits(logit, None).log_ctcvr(), functional.logsigmoid(logit))


def test_the_network_learns_clicks_with_one_tower_and_survives_a_file(window, tmp_path):
    """49 clicks and 49 conversions were refused: each had to be more than the next."""
    pairs, labels = window("reward")
    ranker = fit_ranker(pairs, clicks_of(labels), SECTION, seed=1)
    assert ranker.model.cvr is None
    later, truth = window("rl")
    predictions = predict(ranker, later)
    assert auc(truth.click, predictions.ctr) > 0.8
    assert np.array_equal(predictions.ctcvr, predictions.ctr)
    save_ranker(ranker, tmp_path / "ranker")
    again = predict(load_ranker(tmp_path / "ranker"), later)
    assert np.array_equal(again.ctr, predictions.ctr)


def test_gradient_boosting_does_the_same(window, tmp_path):
    pytest.importorskip("lightgbm")
    pairs, labels = window("reward")
    model = GradientBoosting(BoostingSection(rounds=10, leaves=4, min_leaf=10))
    fitted = model.fit(pairs, clicks_of(labels), seed=1, language=NO_LANGUAGE)
    later, truth = window("rl")
    predictions = fitted.predict(later, NO_LANGUAGE)
    assert auc(truth.click, predictions.ctr) > 0.75
    assert np.array_equal(predictions.ctcvr, predictions.ctr)
    fitted.save(tmp_path / "boosted")
    assert sorted(p.name for p in (tmp_path / "boosted").iterdir()) == [
        "boosting.json",
        "click.txt",
    ]
    again = load_boosted(tmp_path / "boosted").predict(later, NO_LANGUAGE)
    assert np.array_equal(again.ctr, predictions.ctr)


def test_a_log_of_clicks_alone_or_none_is_still_refused(window):
    pairs, labels = window("reward")
    everything = Labels(np.ones_like(labels.click), labels.conversion, labels.ts, "click")
    with pytest.raises(DataError, match="some must be clicked and some not"):
        fit_ranker(pairs, everything, SECTION, seed=1)


def test_figures_name_clicks_alone_and_auc_and_gauc_are_those_by_hand():
    """Three impressions of ann, two of bob, one click each."""
    users = np.array(["ann", "ann", "ann", "bob", "bob"], dtype=object)
    click = np.array([1.0, 0.0, 0.0, 1.0, 0.0])
    score = np.array([0.5, 0.6, 0.1, 0.9, 0.2])
    found = comparison_figures(
        {"base": [Outcome(score, score)]}, {}, Exposed(users, click, None), resamples=10, seed=1
    )
    arm = found["arms"]["base"]
    assert set(arm) == {"click_auc", "click_gauc", "click_log_loss", "click_ece"}
    # ann's click beats 0.1 and 0.2, not 0.6; bob's beats all three: 5 of 6 pairs.
    assert arm["click_auc"]["value"] == pytest.approx(5 / 6)
    # Weighted by impressions: ann (3) has 1/2, bob (2) has 1.
    assert arm["click_gauc"]["value"] == pytest.approx((3 * 0.5 + 2 * 1.0) / 5)
