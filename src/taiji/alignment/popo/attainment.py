"""How far each reward has come: between the worst and the best that it can be, or has been.

Shape suffixes: K rewards.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from taiji.alignment.popo.weights import Array
from taiji.errors import ConfigError, DataError
from taiji.rule_settings import RuleSettings


class Attainment:
    """Ideal and worst value of each reward: as given, else the best and worst mean seen.

    Args:
        settings: Of the rule.
        names: Of the rewards.

    Raises:
        ConfigError: A value is given for a reward that there is not, or the worst is no less.
    """

    def __init__(self, settings: RuleSettings, names: Sequence[str]) -> None:
        self._ideal_K = _given("ideal", settings.ideal, names)
        self._worst_K = _given("worst", settings.worst, names)
        wrong = [n for n, w, i in zip(names, self._worst_K, self._ideal_K, strict=True) if w >= i]
        if wrong:
            raise ConfigError(f"worst: {', '.join(wrong)}: must be below the ideal")
        self._best_seen_K = np.full(len(names), -np.inf)
        self._worst_seen_K = np.full(len(names), np.inf)

    def note(self, mean_K: Array) -> None:
        """Take means into account; NaN where a reward was absent."""
        self._best_seen_K = np.fmax(self._best_seen_K, mean_K)
        self._worst_seen_K = np.fmin(self._worst_seen_K, mean_K)

    @property
    def ideal_K(self) -> Array:
        """Minus infinity for a reward that was neither given nor seen."""
        return np.where(np.isnan(self._ideal_K), self._best_seen_K, self._ideal_K)

    def range_K(self, deviation_K: Array) -> Array:
        """From worst to ideal; 0 where that is not known.

        Seen values make a range only as far as they differ by more than rollouts of one prompt
        do: else the mean of a reward that is nothing but noise would look like one that moves, and
        a small range makes a large weight.

        Args:
            deviation_K: Standard deviation within groups.
        """
        worst_K = np.where(np.isnan(self._worst_K), self._worst_seen_K, self._worst_K)
        known_K = self.ideal_K - worst_K
        given_K = ~np.isnan(self._ideal_K) & ~np.isnan(self._worst_K)
        return np.asarray(np.where(given_K, known_K, np.fmax(known_K, deviation_K)), np.float64)

    def state(self) -> dict[str, list[float | None]]:
        """For JSON."""
        return {"best": _finite(self._best_seen_K), "worst": _finite(self._worst_seen_K)}

    def load(self, state: Mapping[str, Sequence[float | None]]) -> None:
        """The inverse of `state`.

        Raises:
            DataError: It is damaged.
        """
        try:
            best_K, worst_K = (
                np.array([empty if v is None else float(v) for v in state[name]], np.float64)
                for name, empty in (("best", -np.inf), ("worst", np.inf))
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError("state of the weights: damaged: resume from an earlier one") from error
        if not best_K.shape == worst_K.shape == self._ideal_K.shape:
            raise DataError("state of the weights: damaged: resume from an earlier one")
        self._best_seen_K, self._worst_seen_K = best_K, worst_K


def _given(setting: str, values: Mapping[str, float] | None, names: Sequence[str]) -> Array:
    unknown = sorted(set(values or {}) - set(names))
    if unknown:
        raise ConfigError(
            f"{setting}: {', '.join(unknown)}: no such reward: there are {', '.join(names)}"
        )
    return np.array([(values or {}).get(name, np.nan) for name in names], np.float64)


def _finite(values_K: Array) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values_K.tolist()]
