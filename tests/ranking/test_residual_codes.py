"""A number as residual codes: codes, contrast and expectation by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from taiji.config import RqSection
from taiji.ranking.residual_codes import (
    RqNetwork,
    expected_values,
    fit_centres,
    fit_rq,
    nearest,
    rank_n_contrast,
    regressed,
    residual_codes,
)


def test_centres_of_two_clumps_are_their_means_or_their_medians():
    numbers = np.array([0.0, 1.0, 5.0, 10.0, 10.0, 40.0])
    assert fit_centres(numbers, 2, medians=False).tolist() == pytest.approx([5.2, 40.0])
    assert fit_centres(numbers, 2, medians=True).tolist() == pytest.approx([1.0, 10.0])
    assert nearest(np.array([5.4, 5.6]), np.array([1.0, 10.0])).tolist() == [0, 1]


def test_centres_of_all_levels_add_up_to_the_logarithm():
    values = np.random.default_rng(0).lognormal(2, 1, 3000)
    codes = residual_codes(values, 3, 16)
    told = sum(of[codes.code_NL[:, level]] for level, of in enumerate(codes.centres))
    errors = np.abs(told - np.log1p(values))
    assert errors.mean() < 0.005
    first = codes.centres[0][codes.code_NL[:, 0]]
    assert errors.mean() < np.abs(first - np.log1p(values)).mean() / 20


def test_a_code_has_fifty_rows_on_average_or_there_are_fewer_codes():
    codes = residual_codes(np.arange(100.0), 2, 16)
    assert [len(of) for of in codes.centres] == [2, 2]


def test_rank_n_contrast_by_hand():
    # Rows at 0, 1, 3 with labels 0, 1, 3; t = 1, s = -distance.
    # i=0: j=1, rivals 1, 2: 1 + log(e^-1 + e^-3) = .126928; j=2, rival 2: 0.
    # i=1: j=0, rivals 0, 2: 1 + log(e^-1 + e^-2) = .313262; j=2, rival 2: 0.
    # i=2: j=0, rival 0: 0; j=1, rivals 0, 1: 2 + log(e^-3 + e^-2) = .313262.
    at = torch.tensor([0.0, 1.0, 3.0])
    loss = rank_n_contrast(at[:, None], at, 1.0)
    assert loss.item() == pytest.approx((0.126928 + 0.313262 + 0.313262) / 6, abs=1e-5)
    assert rank_n_contrast(at[:1, None], at[:1], 1.0).item() == 0


def test_the_expectation_sums_over_all_paths():
    # Logits fixed: level 1 1/4, 3/4; level 2 1/2, 1/2, whatever was read. Centres 0, 1 and 0, 2:
    # (1/4)(1/2)(e^0 + e^2) + (3/4)(1/2)(e^1 + e^3) - 1.
    network = RqNetwork(1, (2, 2))
    with torch.no_grad():
        for parameter in network.heads.parameters():
            parameter.zero_()
        network.heads[0].bias.copy_(torch.tensor([0.0, math.log(3.0)]))
    found = expected_values(network, np.zeros((3, 1)), (np.array([0.0, 1.0]), np.array([0.0, 2.0])))
    by_hand = (1 + math.exp(2)) / 8 + 3 * (math.e + math.exp(3)) / 8 - 1
    assert found.tolist() == pytest.approx([by_hand] * 3, rel=1e-5)


def test_a_step_reads_the_code_before_it():
    torch.manual_seed(0)
    network = RqNetwork(1, (2, 2))
    _, state = network.begin(torch.zeros(2, 1))
    _, state = network.step(0, None, state)
    logits, _ = network.step(1, torch.tensor([0, 1]), state)
    assert not torch.allclose(logits[0], logits[1])
    assert isinstance(network.cell, nn.LSTMCell)


def test_the_network_learns_a_mean_that_depends_on_the_features_and_repeats_itself():
    random = np.random.default_rng(1)
    x = random.normal(size=(600, 2))
    value = np.exp(1 + 0.8 * x[:, 0] + 0.3 * random.normal(size=600))
    codes, log = residual_codes(value, 2, 6), np.log1p(value)
    centred = (log - log.mean()) / log.std()
    section = RqSection(levels=2, codes=6, epochs=12, learning_rate=1e-2)
    network = fit_rq(x, centred, codes, section, seed=1)
    found = expected_values(network, x, codes.centres)
    truth = np.exp(1 + 0.8 * x[:, 0] + 0.3**2 / 2)
    assert np.abs(found - truth).mean() < 0.35 * np.abs(truth.mean() - truth).mean()
    assert np.corrcoef(regressed(network, x), centred)[0, 1] > 0.9
    again = fit_rq(x, centred, codes, section, seed=1)
    assert np.array_equal(found, expected_values(again, x, codes.centres))
