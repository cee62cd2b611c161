"""A click whose conversion nobody knows teaches its click, and neither raises nor lowers pCVR."""

import numpy as np
import pytest
import torch
from ranker_parts import SECTION

from taiji.ranking.calibration import Calibration
from taiji.ranking.model import Logits, esmm_loss, expected_outcome
from taiji.ranking.train import Labels, fit_ranker, predict
from taiji.ranking.unknown import known_weights


def test_an_unknown_click_counts_as_the_conversion_rate_that_the_model_expects():
    # pCVR = sigmoid(log 3) = 3/4 stands for the unknown label, and carries no gradient.
    cvr = torch.tensor([np.log(3.0), np.log(3.0)], requires_grad=True)
    both = torch.tensor([0.0, 0.0])
    expected = expected_outcome(both, cvr, torch.tensor([True, False]))
    assert expected.tolist() == pytest.approx([0.75, 0.0])
    assert not expected.requires_grad


def test_the_loss_is_least_at_the_rate_of_the_known_clicks_however_many_are_unknown():
    # Eight impressions, four clicks: one converted, one not, two unknown. pCTR 1/2; the known
    # clicks say pCVR 1/2. There the slope is 0; with the unknown as no conversions it is not.
    click = torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0])
    conversion = torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0])
    unknown = torch.tensor([False, False, True, True, False, False, False, False])

    def slope(silent):
        z = torch.zeros((), requires_grad=True)
        esmm_loss(Logits(torch.zeros(8), z.expand(8)), click, conversion, silent).backward()
        return z.grad.item()

    assert slope(unknown) == pytest.approx(0, abs=1e-7)
    assert slope(None) > 0.05


def test_calibration_expects_of_unknown_clicks_what_the_known_ones_did():
    random = np.random.default_rng(0)
    click = (random.random(4000) < 0.5).astype(float)
    converted = click * (random.random(4000) < 0.3)
    unknown = (click > 0) & (random.random(4000) < 0.6)
    told = np.where(unknown, 0.0, converted)
    flat = np.zeros(4000)

    def rate(silent):
        ctr, ctcvr = Calibration.fit(flat, flat, click, told, silent).apply(flat, flat)
        return float((ctcvr / ctr)[0])

    known = converted[~unknown & (click > 0)].mean()
    assert rate(unknown) == pytest.approx(known, abs=0.01)
    assert rate(None) < 0.6 * known


def test_trees_weigh_non_clicks_by_the_share_of_clicks_that_is_known():
    click = np.array([1, 1, 0, 0], dtype=np.float32)
    unknown = np.array([True, False, False, False])
    weights = known_weights(click, unknown, np.arange(4))
    assert weights.tolist() == [0.0, 1.0, 0.5, 0.5]


def test_a_network_keeps_its_level_where_half_of_the_clicks_are_unknown(crowd):
    pairs, labels = crowd
    random = np.random.default_rng(1)
    click = (random.random(len(pairs)) < 0.5).astype(np.float32)
    conversion = click * (random.random(len(pairs)) < 0.4)
    unknown = (click > 0) & (random.random(len(pairs)) < 0.5)
    told = np.where(unknown, 0, conversion).astype(np.float32)
    found = predict(
        fit_ranker(pairs, Labels(click, told, labels.ts, unknown=unknown), SECTION, seed=1), pairs
    )
    assert (found.ctcvr / found.ctr).mean() == pytest.approx(0.4, abs=0.05)
