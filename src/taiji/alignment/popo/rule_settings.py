"""Which rule moves the reward weights, and how it is tempered."""

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

from taiji.errors import ConfigError

RuleKind = Literal["popo", "popo_split", "popo_light", "fixed", "mgda", "cagrad"]
Normalise = Literal["none", "trace"]

EQ_5 = frozenset({"popo", "popo_split"})
ON_GRADIENTS = EQ_5 | {"mgda", "cagrad"}
MOVING = ON_GRADIENTS | {"popo_light"}
_USED_BY = {
    **dict.fromkeys(("eta", "mu", "normalise", "max_log_step", "leak"), EQ_5),
    **dict.fromkeys(("floor", "smoothing", "every", "warmup_steps"), MOVING),
    "light_epsilon": frozenset({"popo_light"}),
    "cagrad_c": frozenset({"cagrad"}),
}


@dataclass(frozen=True)
class RuleSettings:
    """Which rule, and how it is tempered.

    Attributes:
        kind: `popo` (Eq. 5, 6), `popo_split` (the same on inner products without their noise
            bias), `popo_light` (Eq. 7), `fixed`, or TorchJD's `mgda` and `cagrad`.
        eta: Of Eq. 5; only eta / mu matters. The paper gives neither.
        mu: Of Eq. 5.
        light_epsilon: eps of Eq. 7. The paper gives none.
        cagrad_c: Radius of CAGrad's ball, in lengths of the mean gradient.
        normalise: Divide I by the sum of the squared gradient norms (`trace`), or not.
        max_log_step: The most that Eq. 5 may move a log weight in a step; None = no limit.
        floor: No weight falls below it; must be under 1 / K.
        smoothing: Decay of the moving average of I, or of the step's weights where there is no I.
        leak: Share by which log w returns to the initial weights before each step.
        every: Step the weights at every n-th step only.
        warmup_steps: Keep the initial weights for so many steps.

    Raises:
        ConfigError: A value is out of range.
    """

    kind: RuleKind = "popo"
    eta: float = 0.1
    mu: float = 1.0
    light_epsilon: float = 1e-4
    cagrad_c: float = 0.4
    normalise: Normalise = "none"
    max_log_step: float | None = None
    floor: float = 0.0
    smoothing: float = 0.0
    leak: float = 0.0
    every: int = 1
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        """Check each range; what depends on the number of rewards is checked by WeightRule."""
        for name, chosen, known in (
            ("rule", self.kind, get_args(RuleKind)),
            ("normalise", self.normalise, get_args(Normalise)),
        ):
            if chosen not in known:
                raise ConfigError(f"{name}: {chosen!r}: choose one of {', '.join(known)}")
        for name in ("eta", "mu", "light_epsilon", "cagrad_c", "max_log_step"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name}: {value}: must be a finite number above 0")
        for name in ("floor", "smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}: {getattr(self, name)}: must lie in [0, 1)")
        if not 0 <= self.leak <= 1:
            raise ConfigError(f"leak: {self.leak}: must lie in [0, 1]")
        for name, least in (("every", 1), ("warmup_steps", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: {getattr(self, name)}: must be {least} or more")

    @property
    def step_size(self) -> float:
        """eta / mu, all that Eq. 5 sees of the two."""
        return self.eta / self.mu

    @property
    def needs_gradients(self) -> bool:
        """Whether each reward's gradient is needed."""
        return self.kind in ON_GRADIENTS

    @property
    def needs_unbiased(self) -> bool:
        """Whether inner products without their noise bias are needed too."""
        return self.kind == "popo_split"

    def unused(self) -> list[str]:
        """Settings that were chosen and do nothing under this rule."""
        return [
            field.name
            for field in fields(self)
            if field.name in _USED_BY
            and getattr(self, field.name) != field.default
            and self.kind not in _USED_BY[field.name]
        ]
