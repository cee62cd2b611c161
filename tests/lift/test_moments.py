import numpy as np
from lift_world import DAY, purchases

from taiji.lift.moments import Shown, plan_moments

LOG = purchases((0, 12, "milk"), (0, 16, "eggs"), (1, 30, "tea"))
SHOWN = Shown(
    user_N=np.array([0, 0, 0, 1]),
    ts_N=np.array([11, 12, 18, 11]) * DAY,
    visit_N=np.array([5, 5, 6, 7]),
    starts=10 * DAY,
    ends=24 * DAY,
)
WEEKS = [3 * DAY, 10 * DAY, 17 * DAY, 24 * DAY]


def plan(refresh):
    return plan_moments(refresh, SHOWN, WEEKS, LOG)


def test_one_text_a_user_and_window():
    found = plan("window")
    assert found.of_row_N.tolist() == [0, 0, 0, 1]
    assert found.begins_M.tolist() == [10 * DAY] * 2
    assert found.ends_M.tolist() == [24 * DAY] * 2


def test_one_text_a_user_and_week():
    found = plan("week")
    assert found.of_row_N.tolist() == [0, 0, 1, 2]
    assert found.begins_M.tolist() == [10 * DAY, 17 * DAY, 10 * DAY]
    assert found.ends_M.tolist() == [17 * DAY, 24 * DAY, 17 * DAY]


def test_a_text_of_a_visit_foresees_the_next_basket_inside_the_window():
    found = plan("visit")
    assert found.of_row_N.tolist() == [0, 0, 1, 2]
    assert found.begins_M.tolist() == [11 * DAY, 18 * DAY, 11 * DAY]
    assert found.ends_M.tolist() == [12 * DAY + 1, 18 * DAY, 24 * DAY]


def test_no_text_is_written_after_what_it_serves():
    for refresh in ("window", "week", "visit"):
        found = plan(refresh)
        assert (found.begins_M[found.of_row_N] <= SHOWN.ts_N).all()
        assert (found.user_M[found.of_row_N] == SHOWN.user_N).all()
