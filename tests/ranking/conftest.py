"""One market for all tests of the room; nothing changes it."""

import market
import pytest
from weeks import CALENDAR

from taiji.ranking.as_of import AsOf
from taiji.ranking.train import Labels


@pytest.fixture(scope="session")
def world():
    return market.build()


@pytest.fixture(scope="session")
def asof(world):
    return AsOf(
        users=world.users, items=world.items, interactions=world.interactions, calendar=CALENDAR
    )


@pytest.fixture(scope="session")
def crowd():
    """Pairs and labels of enough users that none can be learned by heart."""
    world = market.build(num_users=200, per_visit=3)
    asof = AsOf(
        users=world.users, items=world.items, interactions=world.interactions, calendar=CALENDAR
    )
    rows = CALENDAR.window("reward").rows(world.exposures)
    return asof.features(rows), Labels.from_exposures(rows)


@pytest.fixture(scope="session")
def window(world, asof):
    """Pairs and labels of a window by its name."""

    def of(name):
        rows = CALENDAR.window(name).rows(world.exposures)
        return asof.features(rows), Labels.from_exposures(rows)

    return of
