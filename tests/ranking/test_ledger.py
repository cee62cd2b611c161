import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from taiji.ranking.ledger import Ledger

EVENT = st.tuples(st.integers(-1, 4), st.integers(-5, 5), st.integers(-9, 9))
QUESTION = st.tuples(st.integers(-2, 6), st.integers(-7, 7))


@given(st.lists(EVENT, max_size=30), st.lists(QUESTION, min_size=1, max_size=10))
@settings(max_examples=80, deadline=None)
def test_a_ledger_equals_a_scan_of_what_came_strictly_before(events, questions):
    key, moment, amount = (np.array([e[n] for e in events], dtype=np.int64) for n in range(3))
    asked_key, asked_moment = (np.array([q[n] for q in questions]) for n in range(2))
    state = Ledger(key, moment, {"sum": amount}).before(asked_key, asked_moment)
    for row, (k, m) in enumerate(questions):
        past = [(when, how_much) for which, when, how_much in events if which == k and when < m]
        moments = sorted({when for when, _ in past})
        assert state.sums["sum"][row] == sum(how_much for _, how_much in past)
        assert state.moments[row] == len(moments)
        assert state.first_at[row] == (moments[0] if moments else 0)
        assert state.last_at[row] == (moments[-1] if moments else 0)
