"""The settings of the rule that moves the reward weights: the one table of them.

PopoConfig and the recipe's `align.weights` are made of this class, and so is the list of names
that `align.trainer` refuses. A further option is one field here, and a row in docs/popo.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import ConfigDict, Field, ValidationError, create_model

from taiji.errors import ConfigError

RuleKind = Literal["popo", "popo_split", "popo_light", "fixed", "mgda", "cagrad", "tchebycheff"]
Normalise = Literal["none", "trace"]

EQ_5 = frozenset({"popo", "popo_split"})
ON_GRADIENTS = EQ_5 | {"mgda", "cagrad"}
ON_REWARDS = frozenset({"popo_light", "tchebycheff"})
MOVING = ON_GRADIENTS | ON_REWARDS
LIGHT = frozenset({"popo_light"})
CAGRAD = frozenset({"cagrad"})
TCHEBYCHEFF = frozenset({"tchebycheff"})

_BARE = ("rule", "eta", "mu", "light_epsilon", "cagrad_c", "tchebycheff_mu")


@dataclass(frozen=True)
class RuleSettings:
    """Which rule moves the weights, and how it is tempered.

    A field's annotation says what it does, its range, and the rules that it tempers: under any
    other it does nothing. Of eta and mu only the quotient matters.

    Raises:
        ConfigError: A value is out of range.
    """

    rule: Annotated[
        RuleKind,
        Field(
            description="Eq. 5-6; the same without noise bias; Eq. 7; none; TorchJD's; towards "
            "the trade-off that `initial` asks for"
        ),
    ] = "popo"
    eta: Annotated[
        float, EQ_5, Field(gt=0, description="eta of Eq. 5 (ours; the paper gives none)")
    ] = 0.1
    mu: Annotated[
        float, EQ_5, Field(gt=0, description="mu of Eq. 5 (ours; the paper gives none)")
    ] = 1.0
    light_epsilon: Annotated[
        float, LIGHT, Field(gt=0, description="eps of Eq. 7 (ours; the paper gives none)")
    ] = 1e-4
    cagrad_c: Annotated[
        float, CAGRAD, Field(gt=0, description="radius of CAGrad's ball, in mean gradients")
    ] = 0.4
    tchebycheff_mu: Annotated[
        float,
        TCHEBYCHEFF,
        Field(gt=0, description="smoothness of the largest gap; small = the weight of one"),
    ] = 0.03
    ideal: Annotated[
        dict[str, float] | None,
        TCHEBYCHEFF,
        Field(description="by reward, the most of it that can be had; null = the best mean seen"),
    ] = None
    worst: Annotated[
        dict[str, float] | None,
        TCHEBYCHEFF,
        Field(description="by reward, what the others alone leave of it; null = the worst seen"),
    ] = None
    normalise: Annotated[
        Normalise,
        EQ_5,
        Field(description="divide I by the sum of the squared gradient norms, or not"),
    ] = "none"
    max_log_step: Annotated[
        float | None,
        EQ_5,
        Field(gt=0, description="the most that Eq. 5 may move log w in a step; null = no limit"),
    ] = None
    floor: Annotated[
        float, MOVING, Field(ge=0, lt=1, description="no weight falls below it; under 1 / K")
    ] = 0.0
    smoothing: Annotated[
        float,
        MOVING,
        Field(ge=0, lt=1, description="decay of the moving average of I, mean rewards or weights"),
    ] = 0.0
    leak: Annotated[
        float,
        EQ_5,
        Field(ge=0, le=1, description="share by which log w returns to its start in each step"),
    ] = 0.0
    every: Annotated[
        int, MOVING, Field(ge=1, description="move the weights at each n-th step only")
    ] = 1
    warmup_steps: Annotated[
        int, MOVING, Field(ge=0, description="keep the initial weights for so many steps")
    ] = 0

    def __post_init__(self) -> None:
        """Check each range; what depends on the number of rewards is checked by WeightRule."""
        try:
            _Checked(**{field.name: getattr(self, field.name) for field in fields(self)})
        except ValidationError as error:
            wrong = error.errors()[0]
            raise ConfigError(f"{wrong['loc'][0]}: {wrong['input']!r}: {wrong['msg']}") from error

    @property
    def step_size(self) -> float:
        """eta / mu, all that Eq. 5 sees of the two."""
        return self.eta / self.mu

    @property
    def needs_gradients(self) -> bool:
        """Whether each reward's gradient is needed."""
        return self.rule in ON_GRADIENTS

    @property
    def steps_on_rewards(self) -> bool:
        """Whether the rewards of a step say all, before anything is mixed."""
        return self.rule in ON_REWARDS

    @property
    def needs_unbiased(self) -> bool:
        """Whether inner products without their noise bias are needed too."""
        return self.rule == "popo_split"

    def unused(self) -> list[str]:
        """Settings that were chosen and do nothing under this rule."""
        return [
            field.name
            for field in fields(RuleSettings)
            if getattr(self, field.name) != field.default and self.rule not in _tempered(field.name)
        ]

    def arguments(self) -> dict[str, Any]:
        """The same settings under the names that PopoConfig has for them."""
        return {argument(field.name): getattr(self, field.name) for field in fields(RuleSettings)}


def argument(name: str) -> str:
    """What PopoConfig calls a setting.

    Most get a prefix there: among its hundred inherited fields is a `warmup_steps` already.
    """
    return name if name in _BARE else f"weight_{name}"


def settings_from(arguments: object) -> RuleSettings:
    """The inverse of `arguments`, from anything that has them as attributes.

    Raises:
        ConfigError: A value is out of range.
    """
    names = [field.name for field in fields(RuleSettings)]
    return RuleSettings(**{name: getattr(arguments, argument(name)) for name in names})


def described() -> Mapping[str, str]:
    """What each setting does, in a line."""
    hints = get_type_hints(RuleSettings, include_extras=True)
    return {name: hint.__metadata__[-1].description for name, hint in hints.items()}


def _tempered(name: str) -> frozenset[str]:
    """The rules under which a setting has an effect; `rule` itself always has."""
    rules = get_type_hints(RuleSettings, include_extras=True)[name].__metadata__[0]
    return rules if isinstance(rules, frozenset) else MOVING | {"fixed"}


_FIELDS: dict[str, Any] = {
    name: (hint, ...) for name, hint in get_type_hints(RuleSettings, include_extras=True).items()
}
_Checked: Any = create_model(
    "_Checked", __config__=ConfigDict(strict=True, allow_inf_nan=False), **_FIELDS
)
