import market
import numpy as np
import pytest
from weeks import CALENDAR, week_start

from taiji.ranking import lines as module
from taiji.ranking.as_of import AsOf
from taiji.ranking.lines import Lines

USERS, ITEMS = market.users(4), market.items()


@pytest.fixture
def lines():
    """u000 has none, u001 three, u002 one, u003 two at one moment."""
    table = market.log(
        market.purchase("u003", "i20", week_start(5)),
        market.purchase("u001", "i00", week_start(3), 2.0),
        market.purchase("u002", "i10", week_start(1)),
        market.purchase("u001", "i10", week_start(1)),
        market.purchase("u003", "i00", week_start(5)),
        market.purchase("u001", "i20", week_start(9)),
    )
    return Lines.from_table(table, users(), items())


def users():
    return USERS["user_id"].combine_chunks()


def items():
    return ITEMS["item_id"].combine_chunks()


def at(week):
    return int(week_start(week).timestamp() * 1_000_000)


def test_lines_stand_by_user_time_and_item(lines):
    names = [items()[int(item)].as_py() for item in lines.item_E]
    assert names == ["i10", "i00", "i20", "i10", "i00", "i20"]
    assert lines.first_U.tolist() == [0, 0, 3, 4, 6]


@pytest.mark.parametrize(
    ("user", "week", "expected"),
    [
        (0, 9, (0, 0)),
        (1, 1, (0, 0)),
        (1, 2, (0, 1)),
        (1, 9, (0, 2)),
        (1, 10, (0, 3)),
        (3, 6, (4, 6)),
    ],
)
def test_what_lies_before_a_moment_does_not_lie_at_it(lines, user, week, expected):
    start, stop = lines.before(np.array([user]), np.array([at(week)]))
    assert (start[0], stop[0]) == expected


def test_lines_of_some_users(lines):
    rows, user = lines.of(np.array([0, 1, 3]))
    assert rows.tolist() == [0, 1, 2, 4, 5]
    assert user.tolist() == [1, 1, 1, 3, 3]


def test_the_log_of_a_price_is_kept_to_the_unit(lines):
    (row,) = np.flatnonzero(lines.ts_E == at(3))
    assert lines.amounts(np.array([row])) == {"priced": [1], "log_price": [693_147]}


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pieces_cover_all_and_users_stay_together_where_they_fit(lines, monkeypatch, limit):
    monkeypatch.setattr(module, "LINES_AT_A_TIME", limit)
    asked = np.array([0, 0, 1, 1, 2, 3])
    pieces = list(lines.pieces(asked))
    assert np.concatenate([asked[piece] for piece in pieces]).tolist() == asked.tolist()
    assert np.concatenate(list(lines.some_users())).tolist() == [0, 1, 2, 3]
    if limit == 100:
        assert len(pieces) == 1


def test_features_do_not_depend_on_how_many_users_are_folded_at_a_time(world, asof, monkeypatch):
    expected = asof.features(world.exposures).dense
    monkeypatch.setattr(module, "LINES_AT_A_TIME", 7)
    again = AsOf(
        users=world.users, items=world.items, interactions=world.interactions, calendar=CALENDAR
    )
    assert again.features(world.exposures).dense.tobytes() == expected.tobytes()
