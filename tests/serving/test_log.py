import time

import pytest

from taiji.serving.events import Event
from taiji.serving.log import EventLog


@pytest.fixture
def log(tmp_path):
    made = EventLog(tmp_path / "log.sqlite", {"purchase": 4.0})
    yield made
    made.close()


def event(user, number, kind="purchase"):
    return Event(f"{user}-{number}", "interactions", user, number, kind, "mug", "o1", 1.0, None)


def claim(log, most=10, debounce=0.0, max_delay=60.0, lease=60.0):
    due = log.claim(most, debounce=debounce, max_delay=max_delay, lease=lease)
    return [one.user_id for one in due]


def test_an_event_counts_once_and_its_user_waits(log):
    assert log.append([event("ann", 1), event("ann", 1), event("bob", 1)]) == 2
    assert log.append([event("ann", 1)]) == 0
    assert log.num_waiting() == 2
    assert log.past(["ann"]).interactions.num_rows == 1


def test_twenty_events_are_one_turn(log):
    for number in range(20):
        log.append([event("ann", number)])
    assert claim(log) == ["ann"]
    assert claim(log) == []


def test_a_user_is_due_when_quiet_or_when_they_have_waited_long(log):
    log.append([event("ann", 1)])
    assert claim(log, debounce=10.0) == []
    assert claim(log, debounce=10.0, max_delay=0.0) == ["ann"]


def test_whoever_waits_with_more_goes_first(log):
    log.append([event("bob", 1, "view"), event("ann", 1), event("cid", 1, "view")])
    log.append([event("cid", number, "view") for number in range(2, 9)])
    assert claim(log, most=1) == ["cid"]  # eight views are worth two purchases
    assert claim(log, most=1) == ["ann"]
    assert claim(log, most=1) == ["bob"]


def test_a_user_with_later_events_waits_on(log):
    log.append([event("ann", 1)])
    (first,) = log.claim(1, debounce=0, max_delay=60, lease=60)
    log.append([event("ann", 2)])
    log.done({"ann": first.position})
    (again,) = log.claim(1, debounce=0, max_delay=60, lease=60)
    log.done({"ann": again.position})
    assert log.num_waiting() == 0


def test_the_users_of_a_dead_worker_are_taken_over(log):
    log.append([event("ann", 1)])
    assert claim(log, lease=0.05) == ["ann"]
    time.sleep(0.06)
    assert claim(log) == ["ann"]


def test_a_minute_has_so_many_tokens_and_a_request_beyond_them_goes_alone(log):
    assert log.reserve_tokens(150, 100)  # or it would never go
    assert not log.reserve_tokens(10, 100)
    assert log.totals()["tokens"] == 150


def test_an_erased_user_is_in_no_byte_of_the_file(log, tmp_path):
    log.append([event("canary-ann", number) for number in range(50)])
    log.append([event("bob", 1)])
    assert log.erase("canary-ann") == 50
    assert log.erase("canary-ann") == 0
    for path in tmp_path.iterdir():
        assert b"canary" not in path.read_bytes()
    assert log.past(["bob"]).positions == {"bob": 51}


def test_a_new_version_has_everybody_of_the_log_wait(log):
    log.append([event("ann", 1), event("bob", 1)])
    for one in log.claim(10, debounce=0, max_delay=0, lease=60):
        log.done({one.user_id: one.position})
    assert log.await_everyone() == 2
    assert log.await_everyone() == 0
    assert sorted(claim(log)) == ["ann", "bob"]


def test_events_are_seen_page_by_page_and_may_be_dropped_meanwhile(log):
    log.append([event("ann", number) for number in range(5)])
    seen = []
    for page in log.pages(2):
        seen += page.interactions["position"].to_pylist()
        assert log.drop(seen[-1:]) == 1
    assert seen == [1, 2, 3, 4, 5]
    assert log.past(["ann"]).interactions["position"].to_pylist() == [1, 3]
    log.append([event("ann", 9)])
    assert log.past(["ann"]).positions == {"ann": 6}  # a place is never given twice


def test_figures_are_kept_by_minute_and_added_up(log):
    log.count({"generations": 2})
    log.count({"generations": 3})
    log.gauge({"codes_psi": 0.5})
    log.gauge({"codes_psi": 0.1})
    assert log.totals() == {"generations": 5, "codes_psi": 0.1}
    assert {name for _, name, _ in log.minutes()} == {"generations", "codes_psi"}
