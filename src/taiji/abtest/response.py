"""Who converts: the response model of the simulation, which no model under test may resemble.

Another class than the ranking model (gradient-boosted trees), fitted on the exposures of the test
window, which neither the ranking model nor a language model nor a codebook has seen, and without
any language feature: were an embedding part of the truth, the features made from it would win by
construction.

On top stands a persona that the ranking model never sees: what a user likes beyond the features,
one number for each user and category, estimated from what trees grown on other users could not
explain of the user's own exposures. Whether a language model that reads the history knows
something of it is then a question with an open answer. Its strength is a setting; at 0 the base
features hold all there is to know, and language features can win only by noise.

Shape suffixes: N pairs, F dense features, K known (user, category) pairs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from taiji.arrays import Array, Ints
from taiji.errors import DataError
from taiji.evaluation.metrics import auc
from taiji.ranking.pairs import Pairs

MIN_CONVERSIONS = 20
_CATEGORY = "l2"
_PERSONA_VARIANCE = 1.0  # of the log odds, before anything is seen of a user and a category
_NEWTON_STEPS = 30


@dataclass(frozen=True)
class Persona:
    """What users like beyond the features, in log odds.

    Attributes:
        key_K: User and category of each effect, ascending.
        effect_K: By how much the log odds of a conversion differ.
        strength: Factor of all effects.
    """

    key_K: Ints
    effect_K: Array
    strength: float

    def of(self, key_N: Ints) -> Array:
        """The shift of each pair; 0 where nothing is known of the user in this category."""
        if not self.key_K.size or not self.strength:
            return np.zeros(key_N.size)
        place_N = np.minimum(np.searchsorted(self.key_K, key_N), self.key_K.size - 1)
        known_N = self.key_K[place_N] == key_N
        return np.where(known_N, self.strength * self.effect_K[place_N], 0.0)


@dataclass(frozen=True)
class Response:
    """True probabilities of a conversion.

    Attributes:
        trees: A fitted scikit-learn classifier of the dense features.
        persona: The hidden part.
        offset: Added to all log odds, so that the mean probability is the rate that was logged.
        figures: How well it describes the log; the AUC of the features is of users held out.
    """

    trees: Any
    persona: Persona
    offset: float
    figures: dict[str, float]

    def probability(self, pairs: Pairs, user_N: Ints) -> NDArray[np.float32]:
        """P(click and conversion | shown) of each pair; `user_N` numbers the users as in `fit`."""
        logit_N = self.trees.decision_function(pairs.dense) + self.persona.of(_keys(pairs, user_N))
        return _sigmoid(logit_N + self.offset).astype(np.float32)


def fit_response(
    pairs: Pairs, user_N: Ints, converted_N: Array, *, strength: float, seed: int
) -> Response:
    """Fit the trees, then the persona on what they leave unexplained.

    Args:
        pairs: As-of features of the exposures; only the dense ones and the category are used.
        user_N: A number for each pair's user.
        converted_N: 1 where the exposure was clicked and converted.
        strength: Of the persona.
        seed: Of the trees.

    Raises:
        DataError: There are too few conversions.
    """
    if converted_N.sum() < MIN_CONVERSIONS or converted_N.all():
        raise DataError(
            f"abtest: {int(converted_N.sum())} conversions in {converted_N.size} exposures of the "
            f"test window, at least {MIN_CONVERSIONS} are needed for a response model, and not "
            "all of them may convert: raise data.exposure_share"
        )
    logit_N, key_N = np.empty(converted_N.size), _keys(pairs, user_N)
    for half in (0, 1):  # of the users: what trees say of those they learnt from flatters them
        held_out = user_N % 2 == half
        trees = _grow(pairs.dense[~held_out], converted_N[~held_out], seed)
        logit_N[held_out] = trees.decision_function(pairs.dense[held_out])
    persona = _fit_persona(logit_N, key_N, converted_N, strength)
    shift_N = persona.of(key_N)
    trees = _grow(pairs.dense, converted_N, seed)
    offset = _offset(trees.decision_function(pairs.dense) + shift_N, float(converted_N.mean()))
    figures = {
        "exposures": float(converted_N.size),
        "conversions": float(converted_N.sum()),
        "rate": float(converted_N.mean()),
        "auc_of_features": auc(converted_N, logit_N),
        "auc_with_persona": auc(converted_N, logit_N + shift_N),
        "persona_deviation": float(shift_N.std()),
    }
    return Response(trees, persona, offset, figures)


def _grow(dense_NF: NDArray[np.float32], converted_N: Array, seed: int) -> Any:
    """Few small trees: conversions are rare, and what is fitted to noise no model can foretell."""
    trees = HistGradientBoostingClassifier(
        learning_rate=0.07,
        max_iter=60,
        max_leaf_nodes=6,
        min_samples_leaf=100,
        l2_regularization=5.0,
        early_stopping=False,
        random_state=seed,
    )
    return trees.fit(dense_NF, converted_N)


def _fit_persona(logit_N: Array, key_N: Ints, converted_N: Array, strength: float) -> Persona:
    """One Newton step from 0 of a logistic random effect: sum(y - p) / (sum p(1-p) + 1 / var)."""
    p_N = _sigmoid(logit_N)
    key_K, place_N = np.unique(key_N, return_inverse=True)
    unexplained_K = np.bincount(place_N, weights=converted_N - p_N)
    information_K = np.bincount(place_N, weights=p_N * (1 - p_N))
    return Persona(key_K, unexplained_K / (information_K + 1 / _PERSONA_VARIANCE), strength)


def _offset(logit_N: Array, rate: float) -> float:
    """The shift after which the mean probability is `rate`, by Newton's method."""
    offset = 0.0
    for _ in range(_NEWTON_STEPS):
        p_N = _sigmoid(logit_N + offset)
        offset -= float((p_N.mean() - rate) / max((p_N * (1 - p_N)).mean(), 1e-12))
    return offset


def _keys(pairs: Pairs, user_N: Ints) -> Ints:
    """One integer for a user and a category; items without a category share one."""
    category = pairs.fields[_CATEGORY].codes.astype(np.int64)
    return np.asarray((user_N << 32) + category + 1, dtype=np.int64)


def _sigmoid(logit_N: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-logit_N)))
