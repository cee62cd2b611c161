"""A small advertising world whose truth is known: who likes what, and three models of it."""

from types import SimpleNamespace

import numpy as np

from taiji.abtest.experiment import Plan
from taiji.abtest.market import SLICES_A_WEEK, Traffic
from taiji.abtest.trial import Models

NUM_WEEKS = 4


def build(num_users=300, per_user=12, candidates=8, advertisers=12, seed=0, bias=0.0, **plan):
    """Requests over four weeks; the better a model, the less its predictions stray.

    With a bias, models also err about whole advertisers, all arms alike.
    """
    random = np.random.default_rng(seed)
    num = num_users * per_user
    shape = (num, candidates)
    user = random.permutation(np.repeat(np.arange(num_users), per_user))
    week = np.sort(random.integers(0, NUM_WEEKS, num))
    first = np.searchsorted(week, week)
    size = np.searchsorted(week, week, side="right") - first
    slices = week * SLICES_A_WEEK + (np.arange(num) - first) * SLICES_A_WEEK // size
    logits = random.normal(-2.5, 0.8, shape) + random.normal(0, 0.7, num_users)[user][:, None]
    truth = (1 / (1 + np.exp(-logits))).astype(np.float32)
    stray = random.normal(size=shape)
    arms = {
        arm: (truth * np.exp(deviation * stray)).astype(np.float32)
        for arm, deviation in (("base", 0.9), ("intra", 0.7), ("cross", 0.6), ("both", 0.3))
    }
    again = (truth * np.exp(0.9 * random.normal(size=shape))).astype(np.float32)
    owners = random.integers(advertisers, size=shape).astype(np.int32)
    arms = {arm: scores * _favour(bias, owners) for arm, scores in arms.items()}
    settings = {"budget": 1.5, "cost_control": True} | plan
    return SimpleNamespace(
        models=Models(arms, again, truth),
        plan=Plan(
            traffic=Traffic(owners, truth, week, slices),
            user_R=user,
            num_users=num_users,
            warmup=np.flatnonzero(week == 0),
            measured=np.flatnonzero(week > 0),
            tcpa_A=random.lognormal(0, 0.4, advertisers),
            **settings,
        ),
        requests_U=np.bincount(user[week > 0], minlength=num_users),
    )


def another_seed(ads, seed, bias=0.5):
    """A model as good as the base that errs elsewhere."""
    random, truth = np.random.default_rng(seed), ads.models.truth
    stray = np.exp(0.9 * random.normal(size=truth.shape))
    favour = np.exp(bias * random.standard_normal(ads.plan.tcpa_A.size))
    return (truth * stray * favour[ads.plan.traffic.advertiser_RC]).astype(np.float32)


def _favour(bias, owners):
    """A factor for each advertiser, by which a model overrates all that is his."""
    drawn = np.random.default_rng(1).standard_normal(owners.max() + 1)
    return np.exp(bias * drawn)[owners].astype(np.float32)
