"""Adaptive reward weights: POPO (Eq. 5, 6), POPO-light (Eq. 7), remedies, and a rule beside them.

Shape suffixes: K rewards, P prompts, G rollouts per prompt.
Weights lie on the simplex. Pure NumPy: state goes in and comes out.
"""

import numpy as np
from numpy.typing import NDArray

from taiji.errors import DivergenceError

Array = NDArray[np.float64]


def popo_weights(log_weights_K: Array, alignment_K: Array, *, step_size: float) -> Array:
    """One exponentiated-gradient step log w(t-1) -> log w(t) (Eq. 5).

    Args:
        log_weights_K: log w(t-1), up to a common constant; the paper's unnormalised w~ serves too.
        alignment_K: I(t) of Eq. 6, in squared gradient norm.
        step_size: eta(t) / mu > 0.

    Raises:
        DivergenceError: An alignment is NaN or infinite.
    """
    push_K = step_size * alignment_K
    if not np.isfinite(push_K).all():
        raise DivergenceError(f"POPO: alignment is not finite: {alignment_K}")
    logits_K = log_weights_K + push_K
    return np.asarray(logits_K - np.logaddexp.reduce(logits_K), dtype=np.float64)


def alignment_scores(gram_KK: Array) -> Array:
    """I_i = <g_i, sum_k g_k>, the self term included (Eq. 6).

    With K = 2 the cross terms cancel in the difference: I_1 - I_2 = |g_1|^2 - |g_2|^2. Two
    rewards therefore compete by gradient length alone, which is why the cosine is logged too.
    """
    return np.asarray(gram_KK.sum(axis=1), dtype=np.float64)


def trace_normalised(alignment_K: Array, gram_KK: Array) -> Array:
    """I / sum_k |g_k|^2: the size of the gradients no longer sets the pace.

    Still Eq. 5, whose eta may depend on t. It bounds |I_i| by sqrt(K) even when gradients cancel;
    dividing by sum_k I_k = |sum_k g_k|^2 would explode then.

    Args:
        alignment_K: I(t), of this Gram matrix or of an unbiased estimate of it.
        gram_KK: Inner products of the gradients, whose trace is above 0.
    """
    return np.asarray(alignment_K / np.trace(gram_KK), dtype=np.float64)


def capped_step_size(alignment_K: Array, step_size: float, max_log_step: float) -> float:
    """The largest eta / mu up to `step_size` that moves no log weight by more than `max_log_step`.

    Eq. 5 moves every log w, and the log ratio of any two weights, by at most
    eta / mu (max I - min I). A smaller eta, and not I clipped reward by reward, keeps the
    proportions in which the rewards gain and lose.
    """
    push = step_size * float(np.ptp(alignment_K))
    return step_size if push <= max_log_step else step_size * (max_log_step / push)


def leaked(log_weights_K: Array, initial_log_weights_K: Array, leak: float) -> Array:
    """Pull towards the initial weights: log w <- (1 - leak) log w + leak log w(0).

    Eq. 5 integrates: it forgets where it began and overshoots. With a leak a constant I has the
    fixed point w ~ w(0) exp(eta I / (mu leak)).
    """
    return (1 - leak) * log_weights_K + leak * initial_log_weights_K


def floored(log_weights_K: Array, floor: float) -> Array:
    """The nearest weights, in relative entropy, of which none lies below `floor`.

    Weights below it are set to it, the others keep their proportions. As part of the state this
    also stops log w from winding up: a weight that sank for a thousand steps rises at once.

    Args:
        log_weights_K: Log weights on the simplex; minus infinity is fine.
        floor: 0 <= floor <= 1 / K.
    """
    if floor == 0:
        return log_weights_K
    if floor * len(log_weights_K) >= 1 - 1e-12:  # nothing is left to share out
        return np.full(len(log_weights_K), -np.log(len(log_weights_K)))
    weights_K = np.exp(log_weights_K)
    low_K = np.zeros(len(weights_K), bool)
    while True:
        share = (1 - floor * low_K.sum()) / weights_K[~low_K].sum()
        scaled_K = np.where(low_K, floor, weights_K * share)
        sunk_K = ~low_K & (scaled_K < floor)
        if not sunk_K.any():
            return np.asarray(np.log(scaled_K), dtype=np.float64)
        low_K |= sunk_K


def smoothed(
    mean_K: Array, value_K: Array, *, smoothing: float, count_K: NDArray[np.int64]
) -> Array:
    """Exponential moving average after `count_K` values, `value_K` the last of them.

    Weights of the values are smoothing^age, divided by their sum. Without that division the
    average would begin at 0 and hold the first 1 / (1 - smoothing) steps back.

    Args:
        mean_K: The average of the values before; of no effect where count = 1.
        value_K: The new value.
        smoothing: In [0, 1); 0 keeps the new value alone.
        count_K: How many values there are, the new one included.
    """
    gain_K = (1 - smoothing) / (1 - smoothing**count_K)
    return np.where(gain_K == 1, value_K, mean_K + gain_K * (value_K - mean_K))


def heard(
    applicable_PGK: NDArray[np.bool_], trains_PG: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Whether each reward can rank rollouts in a step; one that cannot is absent, not flat.

    It can where it applies to two rollouts of a group. With `trains_PG` one of those must also
    have tokens that count: of a group whose completions are all masked nothing reaches a loss.
    """
    ranks_PK = applicable_PGK.sum(axis=1) >= 2
    if trains_PG is not None:
        ranks_PK &= (applicable_PGK & trains_PG[:, :, None]).any(axis=1)
    return np.asarray(ranks_PK.any(axis=0))


def group_spread(
    rewards_PGK: Array, applicable_PGK: NDArray[np.bool_] | None = None
) -> tuple[Array, Array]:
    """Mean and standard deviation of each reward within each group of G rollouts.

    Args:
        rewards_PGK: Raw rewards, before any mixing.
        applicable_PGK: False where a reward says nothing about a rollout; such entries are left
            out. All entries apply when it is missing.

    Returns:
        mu_PK and sigma_PK; both NaN for a group in which a reward applies to no rollout.

    Raises:
        DivergenceError: A reward that applies is NaN or infinite.
    """
    applies_PGK = np.ones(rewards_PGK.shape, bool) if applicable_PGK is None else applicable_PGK
    if not np.isfinite(rewards_PGK[applies_PGK]).all():
        raise DivergenceError("POPO: a reward is NaN or infinite")
    rewards_PGK = np.where(applies_PGK, rewards_PGK, 0.0)
    count_PK = applies_PGK.sum(axis=1).astype(np.float64)
    count_PK[count_PK == 0] = np.nan
    mu_PK = rewards_PGK.sum(axis=1) / count_PK
    deviation_PGK = np.where(applies_PGK, rewards_PGK - mu_PK[:, None, :], 0.0)
    sigma_PK = np.sqrt((deviation_PGK**2).sum(axis=1) / count_PK)
    # Rounding of the mean leaves a spread of an ulp among equal rewards; that is no spread.
    negligible_PK = sigma_PK <= 1e-12 * np.maximum(np.abs(mu_PK), 1.0)
    return mu_PK, np.where(negligible_PK, 0.0, sigma_PK)


def mean_and_deviation(
    rewards_PGK: Array, applicable_PGK: NDArray[np.bool_] | None = None
) -> tuple[Array, Array]:
    """`group_spread`, averaged over the groups in which a reward applies; 0 where it does nowhere.

    Raises:
        DivergenceError: A reward that applies is NaN or infinite.
    """
    mu_PK, sigma_PK = group_spread(rewards_PGK, applicable_PGK)
    seen_K = (~np.isnan(mu_PK)).sum(axis=0).clip(min=1)
    return np.nansum(mu_PK, axis=0) / seen_K, np.nansum(sigma_PK, axis=0) / seen_K


def popo_light_weights(
    rewards_PGK: Array,
    applicable_PGK: NDArray[np.bool_] | None = None,
    *,
    epsilon: float = 1e-4,
) -> Array | None:
    """Weights from reward statistics alone: w_i ~ sigma_i / (|mu_i| + eps) (Eq. 7).

    sigma_i and mu_i are taken within each group and averaged over the groups of the step, so a
    reward that merely differs from prompt to prompt earns nothing, and one group whose mean is
    near zero cannot run away with the ratio.

    Args:
        rewards_PGK: Raw rewards, before any mixing.
        applicable_PGK: False where a reward says nothing about a rollout.
        epsilon: eps > 0; the paper gives no value.

    Returns:
        Weights on the simplex, or None if no reward has any spread: keep the last weights.

    Raises:
        DivergenceError: A reward that applies is NaN or infinite.
    """
    mean_K, deviation_K = mean_and_deviation(rewards_PGK, applicable_PGK)
    ratio_K = deviation_K / (np.abs(mean_K) + epsilon)
    total = ratio_K.sum()
    return None if total == 0 else np.asarray(ratio_K / total, dtype=np.float64)


def tchebycheff_weights(asked_K: Array, gap_K: Array, range_K: Array, *, mu: float) -> Array:
    """log w_k, with w_k ~ (lambda_k / range_k) exp(lambda_k gap_k / (range_k mu)).

    The gradient of mu log sum_k exp(lambda_k gap_k / (range_k mu)), a smooth largest gap, is
    -sum_k w_k g_k up to a factor, if g_k is that of the mean of reward k (Lin et al., arXiv
    2402.19078). Where it vanishes inside the front all lambda_k gap_k / range_k are nearly equal,
    whether the front is convex there or not.

    Args:
        asked_K: lambda on the simplex; the larger, the smaller the gap that is left.
        gap_K: How much of each reward is missing from its ideal.
        range_K: From the worst to the ideal of each reward, above 0.
        mu: How smooth; towards 0 the reward with the largest gap takes all the weight.

    Raises:
        DivergenceError: A gap is NaN or infinite.
    """
    missing_K = asked_K * gap_K / range_K
    if not np.isfinite(missing_K).all():
        raise DivergenceError(f"tchebycheff: a gap is not finite: {gap_K} of {range_K}")
    with np.errstate(divide="ignore"):  # nobody may ask for a reward
        logits_K = np.log(asked_K / range_K) + missing_K / mu
    return np.asarray(logits_K - np.logaddexp.reduce(logits_K), dtype=np.float64)
