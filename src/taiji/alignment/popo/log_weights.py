"""Log weights: those that a rule starts from, checked, and all as JSON.

Shape suffixes: K rewards.
"""

from collections.abc import Sequence

import numpy as np

from taiji.alignment.popo.weights import Array
from taiji.errors import ConfigError
from taiji.rule_settings import RuleSettings


def initial_log_weights(
    settings: RuleSettings, names: Sequence[str], initial_K: Array | None
) -> Array:
    """log w(0), checked against the rule and the number of rewards."""
    if not names:
        raise ConfigError("weights: there is no reward to weigh")
    fixed = settings.rule == "fixed"
    may_be_0 = fixed or settings.rule == "tchebycheff"  # no step of theirs multiplies a weight
    weights_K = np.ones(len(names)) if initial_K is None else np.asarray(initial_K, np.float64)
    if weights_K.shape != (len(names),):
        raise ConfigError(f"initial weights: {len(weights_K)} for {len(names)} rewards")
    fit_K = np.isfinite(weights_K) & ((weights_K > 0) | (may_be_0 & (weights_K == 0)))
    if not fit_K.all() or not weights_K.any():
        remedy = "change the sign of the reward" if may_be_0 else "or leave the reward out"
        raise ConfigError(
            f"initial weights: {weights_K.tolist()}: must be finite and above 0: {remedy}"
        )
    weights_K = weights_K / weights_K.sum()
    if not fixed and not settings.floor <= min(weights_K.min(), np.nextafter(1 / len(names), 0)):
        raise ConfigError(
            f"floor: {settings.floor}: must be below 1 / {len(names)} and at most the smallest "
            f"initial weight, {weights_K.min():.3g}"
        )
    with np.errstate(divide="ignore"):  # a weight may be 0
        return np.asarray(np.log(weights_K), dtype=np.float64)


def to_json(values_K: Array) -> list[float | None]:
    """JSON has no minus infinity, the log of a weight of 0."""
    return [value if np.isfinite(value) else None for value in values_K.tolist()]


def from_json(values: Sequence[float | None]) -> Array:
    """The inverse of `to_json`."""
    return np.array([-np.inf if value is None else float(value) for value in values], np.float64)
