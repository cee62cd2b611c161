"""The rule that moves the reward weights from step to step, and all that it remembers.

It knows neither TRL nor tensors: a trainer hands it rewards, or inner products of the rewards'
gradients, and reads weights. The equations are in `weights`; here is their order and state.

Shape suffixes: K rewards, k those that are present in a step, P prompts, G rollouts per prompt.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taiji.alignment.popo import weights as equations
from taiji.alignment.popo.attainment import Attainment
from taiji.alignment.popo.gramian_weightings import GramianWeighting, gramian_weighting
from taiji.alignment.popo.log_weights import from_json, initial_log_weights, to_json
from taiji.alignment.popo.standstill import Standstill
from taiji.alignment.popo.weights import Array
from taiji.errors import ConfigError, DataError, DivergenceError
from taiji.rule_settings import MOVING, RuleSettings

Present = NDArray[np.bool_]


class WeightRule:
    """Weights of K >= 1 rewards that follow a rule; in log space and fp64.

    Args:
        settings: Which rule, and how.
        names: Names of the rewards, in the order of all arrays.
        initial_K: Weights to start from, up to a common factor; uniform if missing. Under
            `tchebycheff` the trade-off that is asked for.

    Raises:
        ConfigError: There is no reward, or weights, floor, ideal or worst do not fit them.
        EngineError: The rule is TorchJD's, and that is not installed.
    """

    def __init__(
        self, settings: RuleSettings, names: Sequence[str], initial_K: Array | None = None
    ) -> None:
        self.settings = settings
        self.names = tuple(names)
        self._initial_K = initial_log_weights(settings, self.names, initial_K)
        self._log_weights_K = self._initial_K
        self._mean_K: Array | None = None  # of I, or of weights; see `smoothing`
        self._num_seen_K = np.zeros(len(self.names), np.int64)  # values in that mean
        self._attained = Attainment(settings, self.names)  # of means; for `tchebycheff`
        self._gaps: dict[str, float] = {}
        self._standstill = Standstill(settings, self.names)
        self._solve: GramianWeighting | None = None
        if settings.rule in ("mgda", "cagrad"):
            self._solve = gramian_weighting(settings.rule, cagrad_c=settings.cagrad_c)

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

    def due(self, step: int, stride: int = 1) -> bool:
        """Whether the weights move at this step; where not, nothing needs to be computed.

        Args:
            step: The first is 1.
            stride: How many steps lie between two calls, as when one generation serves several
                updates: the weights then move at the first call after each `every` steps.
        """
        since = step - 1 - self.settings.warmup_steps
        moving = self.settings.rule in MOVING and len(self.names) > 1  # one alone is always 1
        return moving and since >= 0 and since % self.settings.every < stride

    def step_on_rewards(self, rewards_PGK: Array, applicable_PGK: Present | None = None) -> None:
        """Take the step of a rule on rewards; where they say nothing, the weights stay.

        Args:
            rewards_PGK: Raw rewards.
            applicable_PGK: Where they apply; everywhere if missing.

        Raises:
            DivergenceError: A reward that applies is NaN or infinite; the weights stay.
        """
        assert self.settings.steps_on_rewards, "this rule steps on gradients"
        applies_PGK = np.ones(rewards_PGK.shape, bool) if applicable_PGK is None else applicable_PGK
        present_K = equations.heard(applies_PGK)
        if self.settings.rule == "tchebycheff":
            self._step_tchebycheff(rewards_PGK, applies_PGK, present_K)
            return
        weights_k = equations.popo_light_weights(
            rewards_PGK[..., present_K],
            applies_PGK[..., present_K],
            epsilon=self.settings.light_epsilon,
        )
        self._follow(weights_k, present_K)

    def step_on_gradients(
        self,
        gram_KK: Array,
        unbiased_KK: Array | None = None,
        present_K: Present | None = None,
    ) -> Array:
        """Take the step of a rule on gradients.

        Where all gradients vanish nothing is known, and nothing moves.

        Args:
            gram_KK: <g_i, g_j> of this step.
            unbiased_KK: The same without products of a block of data with itself, whose
                diagonal may be negative. For `popo_split`.
            present_K: Which rewards could rank anything; all if missing. An absent reward has no
                gradient, but is not flat: it keeps its weight, and the others move among
                themselves.

        Returns:
            I(t) as the rule used it: normalised and smoothed if so chosen; NaN where absent.

        Raises:
            DivergenceError: An inner product is NaN or infinite; the weights stay.
        """
        present_K = np.ones(len(self.names), bool) if present_K is None else present_K
        used_K = np.full(len(self.names), np.nan)
        self._refuse_broken(gram_KK)
        inside = np.ix_(present_K, present_K)
        alignment_k = equations.alignment_scores(gram_KK[inside])
        match self.settings.rule:
            case "popo":
                alignment_k = self._step_popo(alignment_k, gram_KK[inside], present_K)
            case "popo_split":
                assert unbiased_KK is not None, "popo_split needs the unbiased inner products"
                self._refuse_broken(unbiased_KK)
                alignment_k = equations.alignment_scores(unbiased_KK[inside])
                alignment_k = self._step_popo(alignment_k, gram_KK[inside], present_K)
            case _:
                assert self._solve is not None, "this rule steps on no gradient"
                self._follow(self._solve(gram_KK[inside]), present_K)
        used_K[present_K] = alignment_k
        return used_K

    def gaps(self) -> dict[str, float]:
        """Under `tchebycheff`, lambda_k gap_k / range_k by reward: equal where one asked to be."""
        return self._gaps

    def inert_warning(self) -> str | None:
        """Why the rule stands still, if it does; said once in the life of a run."""
        return self._standstill.warning()

    # -- State ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs, for JSON, which keeps fp64 exactly."""
        return {
            "rule": self.settings.rule,
            "rewards": list(self.names),
            "log_weights": to_json(self._log_weights_K),
            "mean": None if self._mean_K is None else to_json(self._mean_K),
            "num_seen": self._num_seen_K.tolist(),
            "seen": self._attained.state(),
            "gaps": self._gaps,
            "num_still": self._standstill.num_still,
            "warned": self._standstill.warned,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            ConfigError: The state is of another rule or other rewards.
            DataError: The state is damaged.
        """
        own = self.settings.rule, self.names
        try:
            found = state["rule"], tuple(state["rewards"])
            log_weights_K = from_json(state["log_weights"])
            mean_K = None if state["mean"] is None else from_json(state["mean"])
            num_seen_K = np.array([int(num) for num in state["num_seen"]], np.int64)
            still = int(state["num_still"]), bool(state["warned"])
            attained = Attainment(self.settings, self.names)
            attained.load(state["seen"])
            gaps = {str(name): float(gap) for name, gap in state["gaps"].items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError("state of the weights: damaged: resume from an earlier one") from error
        if found != own:
            raise ConfigError(
                f"state of the weights: holds rule and rewards {found}, the trainer has {own}: "
                "resume with the settings that the run began with"
            )
        fits = mean_K is None or (
            mean_K.shape == self._initial_K.shape and np.isfinite(mean_K).all()
        )
        fits = fits and num_seen_K.shape == log_weights_K.shape == self._initial_K.shape
        if not (fits and np.isclose(np.exp(log_weights_K).sum(), 1)):
            raise DataError("state of the weights: damaged: resume from an earlier one")
        self._log_weights_K, self._mean_K = log_weights_K, mean_K
        self._num_seen_K, self._attained, self._gaps = num_seen_K, attained, gaps
        self._standstill.num_still, self._standstill.warned = still

    # -- One step ------------------------------------------------------------------------------

    def _step_popo(self, alignment_k: Array, gram_kk: Array, present_K: Present) -> Array:
        """Eq. 5 with its remedies, among the rewards that are present."""
        settings = self.settings
        if present_K.sum() < 2 or np.trace(gram_kk) == 0:
            self._stay()
            return np.zeros_like(alignment_k)
        if settings.normalise == "trace":
            alignment_k = equations.trace_normalised(alignment_k, gram_kk)
        alignment_k = self._smoothed(alignment_k, present_K)
        step_size = settings.step_size
        if settings.max_log_step is not None:
            step_size = equations.capped_step_size(alignment_k, step_size, settings.max_log_step)
        log_weights_k = equations.leaked(
            self._log_weights_K[present_K], self._initial_K[present_K], settings.leak
        )
        log_weights_k = equations.popo_weights(log_weights_k, alignment_k, step_size=step_size)
        self._move(log_weights_k, step_size * alignment_k, present_K)
        return alignment_k

    def _step_tchebycheff(
        self, rewards_PGK: Array, applies_PGK: Present, present_K: Present
    ) -> None:
        """Weigh by the gaps of the moving means, among rewards whose range is known."""
        mean_K, deviation_K = equations.mean_and_deviation(rewards_PGK, applies_PGK)
        moving_K = np.full(len(self.names), np.nan)
        moving_K[present_K] = self._smoothed(mean_K[present_K], present_K)
        self._attained.note(moving_K)
        asked_K, range_K = self.initial_weights_K, self._attained.range_K(deviation_K)
        known_K = present_K & (range_K > 0) & (asked_K > 0)
        gap_k = (self._attained.ideal_K - moving_K)[known_K]
        missing_k = asked_K[known_K] * gap_k / range_K[known_K]
        names = [self.names[k] for k in np.flatnonzero(known_K)]
        self._gaps = {f"popo/gap_{n}": v for n, v in zip(names, missing_k.tolist(), strict=True)}
        if known_K.sum() < 2:
            self._stay()
            return
        log_weights_k = equations.tchebycheff_weights(
            asked_K[known_K], gap_k, range_K[known_K], mu=self.settings.tchebycheff_mu
        )
        self._move(log_weights_k, missing_k, known_K)

    def _follow(self, weights_k: Array | None, present_K: Present) -> None:
        """Rules without a memory: take the weights of the step; None means nothing is known."""
        share = self._share(present_K)
        if weights_k is None or present_K.sum() < 2 or share == 0:
            self._stay()
            return
        weights_k = self._smoothed(share * weights_k, present_K)
        with np.errstate(divide="ignore"):  # a weight may be 0
            self._move(np.log(weights_k / weights_k.sum()), weights_k, present_K)

    def _share(self, present_K: Present) -> float:
        """What the rewards that are present have of all weight."""
        return 1.0 if present_K.all() else float(self.weights_K[present_K].sum())

    def _smoothed(self, value_k: Array, present_K: Present) -> Array:
        self._num_seen_K = self._num_seen_K + present_K
        mean_K = np.zeros(len(self.names)) if self._mean_K is None else self._mean_K.copy()
        mean_K[present_K] = equations.smoothed(
            mean_K[present_K],
            value_k,
            smoothing=self.settings.smoothing,
            count_K=self._num_seen_K[present_K],
        )
        self._mean_K = mean_K
        return mean_K[present_K]

    def _move(self, log_weights_k: Array, push_k: Array, present_K: Present) -> None:
        """Deal the weight of the rewards that are present out among them.

        Args:
            log_weights_k: Of those rewards; their weights sum to 1.
            push_k: What moved them.
            present_K: Which they are.
        """
        before_K, share = self.weights_K, self._share(present_K)
        if share == 0:  # all weight lies with a reward that is absent: there is none to deal out
            self._stay()
            return
        log_weights_K = self._log_weights_K.copy()
        log_weights_K[present_K] = np.log(share) + equations.floored(
            log_weights_k, self.settings.floor / share
        )
        push_K = np.zeros(len(self.names))
        push_K[present_K] = push_k
        self._log_weights_K = log_weights_K
        self._standstill.note(before_K, self.weights_K, push_K)

    def _stay(self) -> None:
        self._standstill.note(self.weights_K, self.weights_K, None)

    def _refuse_broken(self, gram_KK: Array) -> None:
        if not np.isfinite(gram_KK.sum()):
            bad_K = ~np.isfinite(np.diag(gram_KK))  # its cross terms would accuse the others too
            names = [name for name, bad in zip(self.names, bad_K, strict=True) if bad]
            raise DivergenceError(f"POPO: gradient of {', '.join(names or self.names)}: not finite")
