"""The rule that moves the reward weights from step to step, and all that it remembers.

It knows neither TRL nor tensors: a trainer hands it rewards, or inner products of the rewards'
gradients, and reads weights. The equations are in `weights`; here is their order and state.

Shape suffixes: K rewards, P prompts, G rollouts per prompt.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taiji.alignment.popo import weights as equations
from taiji.alignment.popo.gramian_weightings import GramianWeighting, gramian_weighting
from taiji.alignment.popo.rule_settings import MOVING, RuleSettings
from taiji.alignment.popo.standstill import Standstill
from taiji.alignment.popo.weights import Array
from taiji.errors import ConfigError, DataError, DivergenceError


class WeightRule:
    """Weights of K >= 1 rewards that follow a rule; in log space and fp64.

    Args:
        settings: Which rule, and how.
        names: Names of the rewards, in the order of all arrays.
        initial_K: Weights to start from, up to a common factor; uniform if missing.

    Raises:
        ConfigError: There is no reward, or weights or floor do not fit their number.
        EngineError: The rule is TorchJD's, and that is not installed.
    """

    def __init__(
        self, settings: RuleSettings, names: Sequence[str], initial_K: Array | None = None
    ) -> None:
        self.settings = settings
        self.names = tuple(names)
        self._initial_K = _initial_log_weights(settings, self.names, initial_K)
        self._log_weights_K = self._initial_K
        self._mean_K: Array | None = None  # of I, or of weights; see `smoothing`
        self._num_seen = 0  # values in that mean
        self._standstill = Standstill(settings, self.names)
        self._solve: GramianWeighting | None = None
        if settings.kind in ("mgda", "cagrad"):
            self._solve = gramian_weighting(settings.kind, cagrad_c=settings.cagrad_c)

    @property
    def weights_K(self) -> Array:
        """w(t), on the simplex."""
        return np.exp(self._log_weights_K)

    @property
    def log_weights_K(self) -> Array:
        """log w(t); minus infinity where a weight is 0, which Eq. 5 itself never reaches."""
        return self._log_weights_K

    @property
    def initial_weights_K(self) -> Array:
        """w(0): they do not move, so whatever must be comparable over time is mixed with them."""
        return np.exp(self._initial_K)

    @property
    def needs_gradients(self) -> bool:
        """Whether the rule steps on gradients."""
        return self.settings.needs_gradients

    @property
    def needs_unbiased(self) -> bool:
        """Whether it wants their inner products without noise bias too."""
        return self.settings.needs_unbiased

    def due(self, step: int, stride: int = 1) -> bool:
        """Whether the weights move at this step; where not, nothing needs to be computed.

        Args:
            step: The first is 1.
            stride: How many steps lie between two calls, as when one generation serves several
                updates: the weights then move at the first call after each `every` steps.
        """
        since = step - 1 - self.settings.warmup_steps
        moving = self.settings.kind in MOVING and len(self.names) > 1  # one alone is always 1
        return moving and since >= 0 and since % self.settings.every < stride

    def step_on_rewards(
        self, rewards_PGK: Array, applicable_PGK: NDArray[np.bool_] | None = None
    ) -> None:
        """Take the step of POPO-light (Eq. 7).

        Args:
            rewards_PGK: Raw rewards, before any mixing.
            applicable_PGK: False where a reward says nothing about a rollout.

        Raises:
            DivergenceError: A reward that applies is NaN or infinite; the weights stay.
        """
        assert self.settings.kind == "popo_light", "this rule steps on gradients"
        epsilon = self.settings.light_epsilon
        self._follow(equations.popo_light_weights(rewards_PGK, applicable_PGK, epsilon=epsilon))

    def step_on_gradients(self, gram_KK: Array, unbiased_KK: Array | None = None) -> Array:
        """Take the step of a rule on gradients.

        Where all gradients vanish nothing is known, and nothing moves.

        Args:
            gram_KK: <g_i, g_j> of this step.
            unbiased_KK: The same without products of a block of data with itself, an unbiased
                estimate whose diagonal may be negative. For `popo_split`.

        Returns:
            I(t) as the rule used it: normalised and smoothed if so chosen.

        Raises:
            DivergenceError: An inner product is NaN or infinite; the weights stay.
        """
        self._refuse_broken(gram_KK)
        alignment_K = equations.alignment_scores(gram_KK)
        match self.settings.kind:
            case "popo":
                return self._step_popo(alignment_K, gram_KK)
            case "popo_split":
                assert unbiased_KK is not None, "popo_split needs the unbiased inner products"
                self._refuse_broken(unbiased_KK)
                return self._step_popo(equations.alignment_scores(unbiased_KK), gram_KK)
            case _:
                assert self._solve is not None, "this rule steps on no gradient"
                self._follow(self._solve(gram_KK))
                return alignment_K

    def inert_warning(self) -> str | None:
        """Why the rule stands still, if it does; said once in the life of a run."""
        return self._standstill.warning()

    # -- State ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs, for JSON, which keeps fp64 exactly."""
        return {
            "rule": self.settings.kind,
            "rewards": list(self.names),
            "log_weights": _to_json(self._log_weights_K),
            "mean": None if self._mean_K is None else _to_json(self._mean_K),
            "num_seen": self._num_seen,
            "num_still": self._standstill.num_still,
            "told": self._standstill.told,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            ConfigError: The state is of another rule or other rewards.
            DataError: The state is damaged.
        """
        own = self.settings.kind, self.names
        try:
            found = state["rule"], tuple(state["rewards"])
            log_weights_K = _from_json(state["log_weights"])
            mean_K = None if state["mean"] is None else _from_json(state["mean"])
            counts = int(state["num_seen"]), int(state["num_still"]), bool(state["told"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError("state of the weights: damaged: resume from an earlier one") from error
        if found != own:
            raise ConfigError(
                f"state of the weights: holds rule and rewards {found}, the trainer has {own}: "
                "resume with the settings that the run began with"
            )
        fits = mean_K is None or (
            mean_K.shape == self._initial_K.shape and np.isfinite(mean_K).all()
        )
        if log_weights_K.shape != self._initial_K.shape or not (
            fits and np.isclose(np.exp(log_weights_K).sum(), 1)
        ):
            raise DataError("state of the weights: damaged: resume from an earlier one")
        self._log_weights_K, self._mean_K = log_weights_K, mean_K
        self._num_seen, self._standstill.num_still, self._standstill.told = counts

    # -- One step ------------------------------------------------------------------------------

    def _step_popo(self, alignment_K: Array, gram_KK: Array) -> Array:
        """Eq. 5 with its remedies."""
        settings = self.settings
        if np.trace(gram_KK) == 0:
            self._stay()
            return np.zeros_like(alignment_K)
        if settings.normalise == "trace":
            alignment_K = equations.trace_normalised(alignment_K, gram_KK)
        alignment_K = self._smoothed(alignment_K)
        step_size = settings.step_size
        if settings.max_log_step is not None:
            step_size = equations.capped_step_size(alignment_K, step_size, settings.max_log_step)
        log_weights_K = equations.leaked(self._log_weights_K, self._initial_K, settings.leak)
        log_weights_K = equations.popo_weights(log_weights_K, alignment_K, step_size=step_size)
        self._move(log_weights_K, step_size * alignment_K)
        return alignment_K

    def _follow(self, weights_K: Array | None) -> None:
        """Rules without a memory: take the weights of the step; None means nothing is known."""
        if weights_K is None:
            self._stay()
            return
        weights_K = self._smoothed(weights_K)
        with np.errstate(divide="ignore"):  # a weight may be 0
            self._move(np.log(weights_K), weights_K)

    def _smoothed(self, value_K: Array) -> Array:
        self._num_seen += 1
        self._mean_K = equations.smoothed(
            value_K if self._mean_K is None else self._mean_K,
            value_K,
            smoothing=self.settings.smoothing,
            count=self._num_seen,
        )
        return self._mean_K

    def _move(self, log_weights_K: Array, push_K: Array) -> None:
        before_K = self.weights_K
        self._log_weights_K = equations.floored(log_weights_K, self.settings.floor)
        self._standstill.note(before_K, self.weights_K, push_K)

    def _stay(self) -> None:
        self._standstill.note(self.weights_K, self.weights_K, None)

    def _refuse_broken(self, gram_KK: Array) -> None:
        if not np.isfinite(gram_KK.sum()):
            bad_K = ~np.isfinite(np.diag(gram_KK))  # its cross terms would accuse the others too
            names = [name for name, bad in zip(self.names, bad_K, strict=True) if bad]
            raise DivergenceError(f"POPO: gradient of {', '.join(names or self.names)}: not finite")


def _initial_log_weights(
    settings: RuleSettings, names: Sequence[str], initial_K: Array | None
) -> Array:
    """log w(0), checked against the rule and the number of rewards."""
    if not names:
        raise ConfigError("weights: there is no reward to weigh")
    fixed = settings.kind == "fixed"
    weights_K = np.ones(len(names)) if initial_K is None else np.asarray(initial_K, np.float64)
    if weights_K.shape != (len(names),):
        raise ConfigError(f"initial weights: {len(weights_K)} for {len(names)} rewards")
    fit_K = np.isfinite(weights_K) & ((weights_K > 0) | (fixed & (weights_K == 0)))
    if not fit_K.all() or not weights_K.any():
        remedy = "change the sign of the reward" if fixed else "or leave the reward out"
        raise ConfigError(
            f"initial weights: {weights_K.tolist()}: must be finite and above 0: {remedy}"
        )
    weights_K = weights_K / weights_K.sum()
    if not fixed and not settings.floor <= min(weights_K.min(), np.nextafter(1 / len(names), 0)):
        raise ConfigError(
            f"floor: {settings.floor}: must be below 1 / {len(names)} and at most the smallest "
            f"initial weight, {weights_K.min():.3g}"
        )
    with np.errstate(divide="ignore"):  # rule `fixed` may hold a 0
        return np.asarray(np.log(weights_K), dtype=np.float64)


def _to_json(values_K: Array) -> list[float | None]:
    """JSON has no minus infinity, the log of a weight of 0."""
    return [value if np.isfinite(value) else None for value in values_K.tolist()]


def _from_json(values: Sequence[float | None]) -> Array:
    return np.array([-np.inf if value is None else float(value) for value in values], np.float64)
