import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from taiji.evaluation.ranking_figures import Exposed, Outcome, comparison_figures

AA = {"intra": 1.0, "base": -1.0}
LIFTS = {f"{arm} - base": {arm: 1.0, "base": -1.0} for arm in ("intra", "cross")}


def make_world(seed=0, rows=600, users=40):
    random = np.random.default_rng(seed)
    truth = random.uniform(0.05, 0.6, size=rows)
    click = (random.random(rows) < truth).astype(float)
    both = click * (random.random(rows) < 0.5)
    users = np.array([f"u{n}" for n in random.integers(users, size=rows)], dtype=object)
    return truth, Exposed(users, click, both), random


def outcome(truth, noise):
    return Outcome(np.clip(truth + noise, 0.01, 0.99), np.clip(truth + noise, 0.01, 0.99) / 2)


def noisy(truth, random, scale, seeds=1):
    return [outcome(truth, random.normal(scale=scale, size=truth.size)) for _ in range(seeds)]


def figures_of(arms, contrasts, exposed):
    return comparison_figures(arms, contrasts, exposed, resamples=100, seed=1)


def test_an_arm_is_the_mean_of_its_seeds():
    truth, exposed, random = make_world()
    seeds = noisy(truth, random, 0.2, seeds=3)
    figures = figures_of({"base": seeds}, {}, exposed)["arms"]["base"]
    values = [roc_auc_score(exposed.click, one.ctr) for one in seeds]
    assert figures["click_auc"]["value"] == pytest.approx(np.mean(values))
    assert figures["click_auc"]["spread"] == pytest.approx(np.std(values, ddof=1))
    assert figures["click_auc"]["low"] < np.mean(values) < figures["click_auc"]["high"]
    assert figures["ctcvr_ece"]["low"] is None


def test_a_copy_of_the_base_differs_by_exactly_nothing_and_a_better_arm_by_more():
    truth, exposed, random = make_world()
    base = noisy(truth, random, 0.3)
    arms = {"base": base, "intra": base, "cross": [outcome(truth, 0.0)]}
    found = figures_of(arms, LIFTS, exposed)["contrasts"]
    nothing = {"value": 0, "low": 0, "high": 0, "spread": None}
    assert found["intra - base"]["click_auc"] == nothing
    assert found["cross - base"]["click_auc"]["low"] > 0
    assert found["cross - base"]["click_log_loss"]["high"] < 0


def test_an_interaction_is_what_both_have_beyond_the_sum():
    truth, exposed, random = make_world()
    arms = {name: noisy(truth, random, 0.2) for name in ("base", "intra", "cross", "both")}
    weights = {"both": 1.0, "intra": -1.0, "cross": -1.0, "base": 1.0}
    figures = figures_of(arms, {"interaction": weights}, exposed)
    auc = {arm: one["click_auc"]["value"] for arm, one in figures["arms"].items()}
    by_hand = auc["both"] - auc["intra"] - auc["cross"] + auc["base"]
    assert figures["contrasts"]["interaction"]["click_auc"]["value"] == pytest.approx(by_hand)


def test_two_trainings_of_one_model_do_not_differ_from_each_other():
    # A/A: nothing but the noise of seeds. One seed each, and users alone make half of them "lift".
    truth, exposed, random = make_world(rows=200, users=10)
    lifts = {1: 0, 3: 0}
    for _ in range(14):
        arms = {name: noisy(truth, random, 0.4, seeds=3) for name in ("base", "intra")}
        for seeds in lifts:
            part = {name: one[:seeds] for name, one in arms.items()}
            found = comparison_figures(part, {"aa": AA}, exposed, resamples=30, seed=1)
            figure = found["contrasts"]["aa"]["click_auc"]
            lifts[seeds] += not figure["low"] <= 0 <= figure["high"]
    assert lifts[3] <= 1 < lifts[1]


def test_what_is_not_defined_is_null():
    truth, exposed, _ = make_world()
    nobody = Exposed(exposed.users, exposed.click, np.zeros_like(exposed.both))
    figures = figures_of({"base": [outcome(truth, 0.0)]}, {}, nobody)["arms"]["base"]
    assert set(figures["ctcvr_auc"].values()) == {None}
    assert figures["ctcvr_log_loss"]["value"] > 0
