"""From gains of several seeds to figures with intervals.

Two sources of chance widen an interval. Test users: whole users are drawn with replacement, the
same draws for every figure. The fit: the weights of a stack come from held-out users, so that
t-distributed noise of the size by which refits on draws of them differ is added to every draw.

Shape suffixes: S seeds, U users, R draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from taiji.arrays import Array
from taiji.evaluation.influence import Influence
from taiji.evaluation.metrics import percentile_interval
from taiji.lift.stack import Gain


@dataclass(frozen=True)
class Figure:
    """A value and its 95 % interval; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, float | None]:
        """For metrics.json."""
        return asdict(self)

    @property
    def half_width(self) -> float | None:
        """Half the interval."""
        if self.low is None or self.high is None:
            return None
        return (self.high - self.low) / 2


def figure(
    seeds: Sequence[Influence], refits: Sequence[Sequence[float]], extra_RU: Array, seed: int
) -> Figure:
    """The mean over seeds with its interval.

    Args:
        seeds: Of each seed.
        refits: Values after refits, of each seed; may be empty.
        extra_RU: `influence.extra_users`.
        seed: Of the noise.
    """
    values = np.array([one.value for one in seeds])
    if not np.isfinite(values).all():
        return Figure(None, None, None)
    draws_R = np.mean([one.draws(extra_RU) for one in seeds], axis=0)
    spread = [np.asarray(values) for values in refits if len(values) > 1]
    freedom = sum(one.size - 1 for one in spread)
    if freedom:
        squares = sum(float(((one - one.mean()) ** 2).sum()) for one in spread)
        width = np.sqrt(squares / freedom / len(seeds))
        chance = np.random.default_rng((seed, 1)).standard_t(freedom, size=draws_R.size)
        draws_R = draws_R + width * chance
    found = percentile_interval(float(values.mean()), draws_R)
    return Figure(found.value, found.low, found.high)


def gain_figures(
    seeds: Sequence[Mapping[str, Mapping[str, Gain]]], extra_RU: Array, seed: int
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Group -> measure -> figure, from `Judge.gain` of each seed."""
    first = seeds[0]
    return {
        group: {
            name: figure(
                [one[task][group].found[name] for one in seeds],
                [one[task][group].refits[name] for one in seeds],
                extra_RU,
                seed,
            ).to_json()
            for task in first
            for name in first[task][group].found
        }
        for group in next(iter(first.values()))
    }
