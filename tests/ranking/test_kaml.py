"""KAML: masks by attribution, split towers and the ranking loss, each by hand."""

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from ranker_parts import SECTION

from taiji.config import KamlSection
from taiji.errors import DataError
from taiji.ranking.kaml import (
    KindTargets,
    KindTowers,
    Reports,
    attribution_mask,
    goals_of_items,
    kind_targets,
    ranking_loss,
)
from taiji.ranking.model import Logits, kaml_loss
from taiji.ranking.train import Labels, fit_ranker, load_ranker, predict, save_ranker


def reports(rows):
    """Rows of advertiser, goal and reported kinds."""
    names = ("advertiser", "goal", "reported")
    columns = zip(*rows, strict=True)
    table = {name: list(of) for name, of in zip(names, columns, strict=True)}
    return Reports.from_table(pa.table(table))


SEEN = [
    ("a", "pay", "install,pay"),
    ("a", "pay", "install"),
    ("a", "pay", ""),
    ("b", "pay", "install"),
    ("b", "pay", ""),
    ("c", "install", "install"),
]


def test_reports_are_read_by_kind():
    found = reports(SEEN)
    assert found.kinds == ("install", "pay")
    expected = [[1, 1], [1, 0], [0, 0], [1, 0], [0, 0], [1, 0]]
    assert found.reported_NJ.astype(int).tolist() == expected
    assert found.goal_N.tolist() == [1, 1, 1, 1, 1, 0]


def test_the_mask_lets_in_the_goal_and_what_the_advertiser_reported_alpha_times():
    # a reported install twice, b once: with alpha 2 only a's exposures teach install too.
    mask = attribution_mask(reports(SEEN), alpha=2)
    assert mask.astype(int).tolist() == [[1, 1], [1, 1], [1, 1], [0, 1], [0, 1], [1, 0]]


@pytest.mark.parametrize(("mask", "entries"), [("goal", 6), ("all", 12), ("attribution", 11)])
def test_masks_of_the_section(mask, entries):
    found = kind_targets(reports(SEEN), KamlSection(mask=mask, alpha=1))
    assert int(found.mask_NJ.sum()) == entries


def test_one_kind_is_refused_and_named():
    with pytest.raises(DataError, match=r"one kind.*pay.*exposures\.conversions"):
        kind_targets(reports([("a", "pay", "pay")]), KamlSection())


def test_the_ranking_loss_pairs_a_conversion_with_every_click_that_is_not_known_to_have_one():
    # Kind 0: z = 2 converted, 0 and 1 did not; the last row was not clicked.
    # -log sigmoid(2) = .126928, -log sigmoid(1) = .313262; kind 1 has no pair.
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [1.0, 0.0], [9.0, 0.0]])
    reported = torch.tensor([[1.0, 0], [0, 0], [0, 0], [0, 0]])
    loss = ranking_loss(logits, reported, torch.tensor([1.0, 1, 1, 0]))
    assert loss.item() == pytest.approx((0.126928 + 0.313262) / 2, abs=1e-6)
    assert ranking_loss(logits, reported * 0, torch.ones(4)).item() == 0


def test_what_a_mask_lets_in_reaches_the_tower_through_a_part_of_its_own():
    torch.manual_seed(1)
    towers = KindTowers(3, (4,), 2, split=True, item_rows=5)
    x, original = torch.randn(2, 3), torch.tensor([[True, False], [True, True]])
    towers(x, original)[0, 1].backward()
    assert towers.original[1][0].weight.grad is None or not towers.original[1][0].weight.grad.any()
    assert towers.extended[1][0].weight.grad.any()
    mixed, served = towers(x, original), towers(x, None)
    assert torch.equal(mixed[1], served[1])
    assert not torch.equal(mixed[0, 1], served[0, 1])


def test_an_item_is_served_by_the_goal_of_most_of_its_impressions():
    goals = goals_of_items(np.array([2, 2, 2, 3]), np.array([1, 0, 1, 0]), 5)
    assert goals.tolist()[2:4] == [1, 0]
    towers = KindTowers(1, (2,), 2, split=False, item_rows=5)
    towers.goal_of_item.copy_(torch.from_numpy(goals))
    logits = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    assert towers.of_goals(logits, torch.tensor([2, 3])).tolist() == pytest.approx([0.2, 0.3])


def test_the_loss_averages_over_what_the_mask_lets_in():
    # pCTR = pCVR = 1/2 everywhere: click .693147; a conversion -log 1/4 = 1.386294, no conversion
    # -log 3/4 = .287682. Two entries are let in; ranking: one pair at equal logits, .693147.
    targets = KindTargets(
        torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
        torch.tensor([[True, False], [True, False]]),
        torch.tensor([[True, False], [True, False]]),
    )
    logits = Logits(torch.zeros(2), torch.zeros(2), torch.zeros(2, 2))
    loss = kaml_loss(logits, torch.ones(2), targets, gamma=0.9)
    by_hand = math.log(2) + 0.9 * (1.386294 + 0.287682) / 2 + 0.1 * math.log(2)
    assert loss.item() == pytest.approx(by_hand, abs=1e-6)


@pytest.fixture
def several(crowd):
    pairs, labels = crowd
    random = np.random.default_rng(0)
    click = (random.random(len(pairs)) < 0.5).astype(np.float32)
    reported = (click[:, None] > 0) & (random.random((len(pairs), 2)) < (0.5, 0.2))
    item = pairs.fields["item"].codes.astype(np.int64)
    seen = Reports(("install", "pay"), reported, item % 2, item)
    goal = reported[np.arange(len(pairs)), seen.goal_N].astype(np.float32)
    return pairs, Labels(click, goal, labels.ts, reports=seen)


def test_a_model_of_several_kinds_serves_each_item_by_its_goal_and_is_kept_whole(several, tmp_path):
    pairs, labels = several
    section = SECTION.model_copy(update={"kaml": KamlSection()})
    ranker = fit_ranker(pairs, labels, section, seed=1)
    found = predict(ranker, pairs)
    cvr, goal = found.ctcvr / found.ctr, labels.reports.goal_N
    assert cvr[goal == 0].mean() > 0.35 > 0.25 > cvr[goal == 1].mean()
    save_ranker(ranker, tmp_path)
    again = predict(load_ranker(tmp_path), pairs)
    assert np.array_equal(found.ctcvr, again.ctcvr)


def test_kaml_without_kinds_is_refused(crowd):
    pairs, labels = crowd
    section = SECTION.model_copy(update={"kaml": KamlSection()})
    with pytest.raises(DataError, match=r"ranker\.kaml.*no kinds.*conversions"):
        fit_ranker(pairs, labels, section, seed=1)


def test_a_model_of_one_kind_is_told_as_before(crowd, tmp_path):
    pairs, labels = crowd
    save_ranker(fit_ranker(pairs, labels, SECTION, seed=1), tmp_path)
    assert "kinds" not in (tmp_path / "ranker.json").read_text("utf-8")
