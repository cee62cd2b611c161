import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from taiji.evaluation.ranking_figures import Exposed, Outcome, arm_figures


def make_world(seed=0, rows=600):
    random = np.random.default_rng(seed)
    truth = random.uniform(0.05, 0.6, size=rows)
    click = (random.random(rows) < truth).astype(float)
    both = click * (random.random(rows) < 0.5)
    users = np.array([f"u{n}" for n in random.integers(40, size=rows)], dtype=object)
    return truth, Exposed(users, click, both), random


def outcome(truth, noise):
    return Outcome(np.clip(truth + noise, 0.01, 0.99), np.clip(truth + noise, 0.01, 0.99) / 2)


def test_an_arm_is_the_mean_of_its_seeds():
    truth, exposed, random = make_world()
    seeds = [outcome(truth, random.normal(scale=0.2, size=truth.size)) for _ in range(3)]
    figures = arm_figures({"base": seeds}, exposed, resamples=100, seed=1)["arms"]["base"]
    by_hand = np.mean([roc_auc_score(exposed.click, one.ctr) for one in seeds])
    assert figures["click_auc"]["value"] == pytest.approx(by_hand)
    assert figures["click_auc"]["low"] < by_hand < figures["click_auc"]["high"]
    assert figures["ctcvr_ece"]["low"] is None


def test_a_copy_of_the_base_differs_by_exactly_nothing_and_a_better_arm_by_more():
    truth, exposed, random = make_world()
    base = [outcome(truth, random.normal(scale=0.3, size=truth.size))]
    arms = {"base": base, "intra": base, "cross": [outcome(truth, 0.0)]}
    differences = arm_figures(arms, exposed, resamples=100, seed=1)["differences"]
    assert differences["intra"]["click_auc"] == {"value": 0, "low": 0, "high": 0}
    assert differences["cross"]["click_auc"]["low"] > 0
    assert differences["cross"]["click_log_loss"]["high"] < 0


def test_what_is_not_defined_is_null():
    truth, exposed, _ = make_world()
    nobody = Exposed(exposed.users, exposed.click, np.zeros_like(exposed.both))
    figures = arm_figures({"base": [outcome(truth, 0.0)]}, nobody, resamples=100, seed=1)
    assert figures["arms"]["base"]["ctcvr_auc"] == {"value": None, "low": None, "high": None}
    assert figures["arms"]["base"]["ctcvr_log_loss"]["value"] > 0
