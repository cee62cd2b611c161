"""Adaptive reward weights: POPO (Eq. 5) and POPO-light (Eq. 7).

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
    if not np.isfinite(alignment_K).all():
        raise DivergenceError(f"POPO: alignment is not finite: {alignment_K}")
    logits_K = log_weights_K + step_size * alignment_K
    return np.asarray(logits_K - np.logaddexp.reduce(logits_K), dtype=np.float64)


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
    mu_PK, sigma_PK = group_spread(rewards_PGK, applicable_PGK)
    seen_K = (~np.isnan(mu_PK)).sum(axis=0).clip(min=1)
    ratio_K = (np.nansum(sigma_PK, axis=0) / seen_K) / (
        np.abs(np.nansum(mu_PK, axis=0) / seen_K) + epsilon
    )
    total = ratio_K.sum()
    return None if total == 0 else np.asarray(ratio_K / total, dtype=np.float64)
