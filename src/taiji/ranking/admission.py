"""Is a ranking model fit to be a reward? Figures over a grid of users and items.

A model can have a fine AUC and yet say the same of everybody; a policy trained on it learns
one constant answer. AUC alone must not admit a ranking model.

Shape suffixes: U users, I items.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taiji.errors import DivergenceError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Admission:
    """How personal a reward is.

    Attributes:
        user_share: Share of the variance of log pCTCVR that lies between users.
        item_share: Between items.
        interaction_share: In neither: what only the pair explains. Near 0 the reward is blind
            to who is asking.
        constant_capture: What the best single item for everyone earns above the mean item, as
            a share of what each user's best item earns above it. Near 1, one answer is enough.
        num_best_items: How many different items are somebody's best.
    """

    user_share: float
    item_share: float
    interaction_share: float
    constant_capture: float
    num_best_items: int


def admit(ctcvr_UI: Array) -> Admission:
    """Judge the scores of a full grid.

    Raises:
        DivergenceError: A score is not a positive number, or all are equal.
    """
    if not (np.isfinite(ctcvr_UI).all() and (ctcvr_UI > 0).all()):
        raise DivergenceError("simulate: a pCTCVR of the pool is not a positive number")
    log_UI = np.log(ctcvr_UI)
    total = log_UI.var()
    if total == 0:
        raise DivergenceError("simulate: the ranking model gives every pair the same pCTCVR")
    user, item = log_UI.mean(axis=1).var() / total, log_UI.mean(axis=0).var() / total
    mean = ctcvr_UI.mean()
    personal = ctcvr_UI.max(axis=1).mean() - mean
    return Admission(
        user_share=float(user),
        item_share=float(item),
        interaction_share=float(1 - user - item),
        constant_capture=float((ctcvr_UI.mean(axis=0).max() - mean) / personal),
        num_best_items=int(np.unique(ctcvr_UI.argmax(axis=1)).size),
    )
