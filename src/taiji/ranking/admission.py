"""Is a ranking model fit to be a reward? Figures over a grid of users and items.

A model can have a fine AUC and yet say the same of everybody; a policy trained on it learns
one constant answer. AUC alone must not admit a ranking model, so four bounds stand before it.

Shape suffixes: U users, I items.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from taiji.arrays import Array
from taiji.config import SimulateSection
from taiji.errors import DivergenceError

_ROUNDING = 1e-12  # of the mean: a model that scores all items alike differs by so little


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
    return Admission(
        user_share=float(user),
        item_share=float(item),
        interaction_share=float(1 - user - item),
        constant_capture=constant_capture(ctcvr_UI),
        num_best_items=int(np.unique(ctcvr_UI.argmax(axis=1)).size),
    )


def constant_reward(rewards_UI: Array) -> float:
    """What the best single item would earn on average, if it were the answer to everybody."""
    return float(rewards_UI.mean(axis=0).max())


def constant_capture(rewards_UI: Array) -> float:
    """How much of what can be won above the mean one answer to everybody wins.

    0: the best constant answer is no better than the mean item. 1: knowing the user is worth
    nothing to this reward, and that is also said of a reward without any spread.
    """
    mean = float(rewards_UI.mean())
    personal = float(rewards_UI.max(axis=1).mean()) - mean
    if personal <= _ROUNDING * abs(mean):
        return 1.0
    return (constant_reward(rewards_UI) - mean) / personal


def shortcomings(figures: Mapping[str, float], section: SimulateSection) -> list[str]:
    """In words, which of the bounds a ranking model misses; none is what admits it.

    Args:
        figures: `interaction_share` of the model; `reward_constant_capture` and
            `reward_best_items` of the reward, after discount and normaliser; `ctcvr_gauc` and
            `ctcvr_gauc_popularity`, or those of `click` if that is the goal, which are left
            out where they are not defined.
        section: The bounds.
    """
    found = []
    if (share := figures["interaction_share"]) < section.min_interaction_share:
        found.append(
            f"only {share:.3f} of the variance of log pCTCVR depends on user and item together "
            f"(simulate.min_interaction_share {section.min_interaction_share:g}): more exposures "
            "or ranker.epochs teach it more"
        )
    if (capture := figures["reward_constant_capture"]) > section.max_constant_capture:
        found.append(
            f"one answer to everybody wins {capture:.3f} of what a perfect policy wins "
            f"(simulate.max_constant_capture {section.max_constant_capture:g}): raise "
            "simulate.popularity_discount or take another simulate.normaliser"
        )
    if (items := figures["reward_best_items"]) < section.min_best_items:
        found.append(
            f"{items:.0f} items are somebody's best (simulate.min_best_items "
            f"{section.min_best_items}): raise simulate.popularity_discount"
        )
    if (lead := gauc_lead(figures)) is None:
        found.append(
            "no user of the validation weeks has both outcomes, so its lead over popularity is "
            "not known: raise data.exposure_share"
        )
    elif lead < section.min_gauc_lead:
        found.append(
            f"its GAUC is {lead:+.3f} from that of the items' popularity (simulate.min_gauc_lead "
            f"{section.min_gauc_lead:g}): more exposures or ranker.epochs teach it more"
        )
    return found


def gauc_lead(figures: Mapping[str, float]) -> float | None:
    """What the model knows of a user's choice beyond what everybody buys; None: not known."""
    for task in ("ctcvr", "click"):  # whichever of them is the goal
        gauc, popularity = f"{task}_gauc", f"{task}_gauc_popularity"
        if gauc in figures and popularity in figures:
            return figures[gauc] - figures[popularity]
    return None
