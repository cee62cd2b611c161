"""Rules on three rewards, and Gram matrices to step them on."""

import numpy as np

from taiji.alignment.popo.weight_rule import WeightRule
from taiji.rule_settings import RuleSettings

NAMES = ("a", "b", "c")
KINDS = ("popo", "popo_split", "popo_light", "fixed", "mgda", "cagrad", "tchebycheff")


def rule(names=NAMES, initial=None, **settings):
    return WeightRule(RuleSettings(**settings), names, initial)


def random_grams(num, num_rewards=3, seed=17):
    gradients_NKD = np.random.default_rng(seed).normal(size=(num, num_rewards, 8))
    return gradients_NKD @ gradients_NKD.transpose(0, 2, 1)


def step(rule, gram_KK):
    """One step of any rule, on rewards that the Gram matrix decides where it takes none."""
    if rule.settings.steps_on_rewards:
        rule.step_on_rewards(gram_KK[None])
    elif rule.settings.rule != "fixed":
        rule.step_on_gradients(gram_KK, gram_KK if rule.settings.needs_unbiased else None)
    return rule.weights_K
