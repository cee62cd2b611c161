import market
import pyarrow.compute as pc
import pytest
from weeks import week_start, window_start

from taiji.errors import DataError
from taiji.ranking.pool import draw_pool

START = window_start("rl")


def test_half_is_a_full_grid_and_half_is_what_users_had_bought(world):
    pool = draw_pool(world.interactions, START, 200, seed=1)
    assert (pool.num_users, pool.num_items) == (10, 10)
    rows = list(
        zip(pool.pairs["user_id"].to_pylist(), pool.pairs["item_id"].to_pylist(), strict=True)
    )
    assert len(rows) == 200
    grid, own = rows[:100], rows[100:]
    users, items = [row[0] for row in grid[::10]], [row[1] for row in grid[:10]]
    assert grid == [(user, item) for user in users for item in items]
    assert len(set(grid)) == 100
    past = world.interactions.filter(pc.less(world.interactions["ts"], START))
    assert set(own) <= set(
        zip(past["user_id"].to_pylist(), past["item_id"].to_pylist(), strict=True)
    )
    assert len(set(own)) == 100


def test_nothing_after_the_moment_moves_the_draw(world):
    past = world.interactions.filter(pc.less(world.interactions["ts"], START))
    full, cut = (draw_pool(log, START, 120, seed=1) for log in (world.interactions, past))
    assert full.pairs.equals(cut.pairs)
    assert not draw_pool(past, START, 120, seed=2).pairs.equals(cut.pairs)


def test_a_log_of_one_user_is_refused():
    log = market.log(market.purchase("u000", "i00", week_start(3)))
    with pytest.raises(DataError, match="pool"):
        draw_pool(log, START, 100, seed=0)
