from dataclasses import replace

import market
import numpy as np
import pytest
from weeks import CALENDAR

from taiji.abtest.response import fit_response
from taiji.errors import DataError
from taiji.evaluation.metrics import auc
from taiji.ranking.as_of import AsOf


@pytest.fixture(scope="module")
def exposed():
    """Exposures of which nothing that the features know decides, only user and aisle."""
    world = market.build(num_users=30, per_visit=6)
    asof = AsOf(
        users=world.users, items=world.items, interactions=world.interactions, calendar=CALENDAR
    )
    pairs = asof.features(CALENDAR.window("test").rows(world.exposures))
    _, user = np.unique(pairs.user_ids, return_inverse=True)
    aisle = pairs.fields["l2"].codes.astype(np.int64)
    likes = np.random.default_rng(3).normal(0, 2, (30, aisle.max() + 1))
    chance = 1 / (1 + np.exp(1.5 - likes[user, aisle]))
    converted = (np.random.default_rng(4).random(chance.size) < chance).astype(np.float64)
    return pairs, user, converted, likes, aisle


FITTED = {}


def fit(exposed, strength, converted=None):
    pairs, user, labels, _, _ = exposed
    if converted is not None:
        return fit_response(pairs, user, converted, strength=strength, seed=1)
    if strength not in FITTED:
        FITTED[strength] = fit_response(pairs, user, labels, strength=strength, seed=1)
    return FITTED[strength]


def test_the_persona_is_what_users_like_beyond_the_features(exposed):
    pairs, user, converted, likes, aisle = exposed
    response = fit(exposed, 1.0)
    shift = response.persona.of((user << 32) + aisle + 1)
    assert np.corrcoef(shift, likes[user, aisle])[0, 1] > 0.6
    chance = response.probability(pairs, user)
    assert auc(converted, chance) > auc(converted, fit(exposed, 0.0).probability(pairs, user))


def test_at_strength_0_only_the_features_decide(exposed):
    pairs, user, _, _, _ = exposed
    response = fit(exposed, 0.0)
    assert np.array_equal(response.probability(pairs, user), response.probability(pairs, 0 * user))
    assert response.figures["persona_deviation"] == 0


def test_a_stronger_persona_moves_more(exposed):
    weak, strong = (fit(exposed, s).figures["persona_deviation"] for s in (1.0, 3.0))
    assert strong == pytest.approx(3 * weak)


@pytest.mark.parametrize("strength", [0.0, 1.0, 3.0])
def test_the_mean_probability_is_the_rate_of_the_log(exposed, strength):
    pairs, user, converted, _, _ = exposed
    chance = fit(exposed, strength).probability(pairs, user)
    assert chance.mean() == pytest.approx(converted.mean(), rel=1e-3)


def test_a_user_of_whom_nothing_is_known_has_no_persona(exposed):
    user = exposed[1]
    response = fit(exposed, 1.0)
    assert (response.persona.of((user + 1000 << 32) + 1) == 0).all()


def test_nothing_but_dense_features_and_the_category_is_looked_at(exposed):
    """Least of all anything of a language model, which does not even reach it."""
    pairs, user, _, _, _ = exposed
    fields = {name: column for name, column in pairs.fields.items() if name == "l2"}
    bare = replace(pairs, fields=fields)
    response = fit(exposed, 1.0)
    assert np.array_equal(response.probability(pairs, user), response.probability(bare, user))


def test_too_few_conversions_are_an_error(exposed):
    converted = np.zeros(len(exposed[1]))
    converted[:19] = 1
    with pytest.raises(DataError, match=r"19 conversions .* raise data\.exposure_share"):
        fit(exposed, 1.0, converted)
    with pytest.raises(DataError, match="not all of them may convert"):
        fit(exposed, 1.0, np.ones_like(converted))
