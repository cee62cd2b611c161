"""Notices when a rule no longer moves the weights, and says why.

A rule that stands still looks like one that works: training goes on, with weights that nobody
chose. Shape suffix: K rewards.
"""

from collections.abc import Sequence

import numpy as np

from taiji.alignment.popo.weights import Array
from taiji.rule_settings import EQ_5, RuleSettings

_STILL = 1e-6  # a weight that moves less than this in a step stands still
_PATIENCE = 20  # steps of standing still before the rule is called inert
_SATURATED = 1e-3  # a weight this close to the edge hardly moves, whatever the push


class Standstill:
    """Counts the steps in which no weight moved; speaks up once in the life of a run.

    Args:
        settings: Of the rule.
        names: Of the rewards.
    """

    def __init__(self, settings: RuleSettings, names: Sequence[str]) -> None:
        self._settings = settings
        self._names = names
        self._weights_K: Array = np.zeros(0)
        self._push_K: Array | None = None
        self.num_still = 0
        self.warned = False

    def note(self, before_K: Array, weights_K: Array, push_K: Array | None) -> None:
        """Take a step into account.

        Args:
            before_K: Weights before it.
            weights_K: Weights after it.
            push_K: What Eq. 5 added to log w; None if nothing was known, as without any spread.
        """
        moved = np.abs(weights_K - before_K).max() >= _STILL
        self.num_still = 0 if moved else self.num_still + 1
        self._weights_K, self._push_K = weights_K, push_K

    def warning(self) -> str | None:
        """Why the rule stands still, if it does and this has not been said before."""
        alone = len(self._names) == 1
        if (
            self.warned
            or self._settings.rule == "fixed"
            or (self.num_still < _PATIENCE and not alone)
        ):
            return None
        self.warned = True
        if alone:
            return f"rule {self._settings.rule}: with one reward its weight is always 1"
        return (
            f"rule {self._settings.rule}: weights have not moved by {_STILL} in {_PATIENCE} steps: "
            f"{self._reason()}"
        )

    def _reason(self) -> str:
        settings, weights_K, push_K = self._settings, self._weights_K, self._push_K
        if push_K is None and settings.rule == "tchebycheff":
            return "fewer than two rewards apply and have any spread: give ideal and worst"
        if push_K is None:
            return "no reward has any spread within its groups, or no two of them apply"
        free_K = weights_K > max(settings.floor * (1 + _SATURATED), _SATURATED)
        remembers = settings.rule in EQ_5 or settings.rule == "tchebycheff"
        if free_K.sum() == 1 and remembers:
            remedy = " that the floor leaves" if settings.floor else ": set a floor"
            if settings.rule == "tchebycheff":
                remedy += ", or raise tchebycheff_mu, or lower an ideal that cannot be reached"
            return f"{self._names[int(weights_K.argmax())]} has all the weight{remedy}"
        if settings.rule not in EQ_5:
            return "they come out the same at every step"
        push = float(np.ptp(push_K[free_K]))
        if push <= 1e-9 * np.abs(push_K).max():
            return "I is the same for all rewards, as for two gradients of equal length"
        if settings.leak and push > 10 * _STILL:
            return f"the leak of {settings.leak} balances I: lower it or raise eta / mu"
        return (
            f"eta / mu = {settings.step_size:g} moves log w by no more than {push:.1e}: raise it "
            "or max_log_step, or normalise by the trace"
        )
