import threading

import pytest

from taiji.config.serving import RefreshSection
from taiji.errors import EngineError
from taiji.serving.bus.sqlite import SqliteBus
from taiji.serving.events import Event
from taiji.serving.log import EventLog
from taiji.serving.outcome import Outcome
from taiji.serving.unavailable import UnavailableError
from taiji.serving.worker import Worker
from taiji.stages.parts.erased import Tombstones, UserNames

QUICK = RefreshSection(debounce_seconds=0.0, max_delay_seconds=0.0, batch_users=4)
NAMES = UserNames(b"k" * 32)


class Refresher:
    """Finishes everybody, unless told otherwise."""

    def __init__(self, log):
        self.log, self.asked, self.reloads = log, [], 0
        self.fail_with = None
        self.failed, self.left = [], []
        self.drift = None

    def refresh(self, users, version):
        if self.fail_with:
            raise self.fail_with
        self.asked.append(sorted(users))
        past = self.log.past(users)
        undone = {*self.failed, *self.left}
        done = {user: past.positions.get(user, 0) for user in users if user not in undone}
        return Outcome(done, list(self.failed), list(self.left), {"generations": len(users)})

    def reload(self):
        self.reloads += 1

    def psi(self):
        return self.drift


class Bench:
    def __init__(self, folder, section=QUICK):
        self.bus = SqliteBus(folder / "queue.sqlite", lease_seconds=60)
        self.log = EventLog(folder / "log.sqlite", {})
        self.tombstones = Tombstones(folder / "erased.sqlite")
        self.refresher = Refresher(self.log)
        self.loads = self.sent = 0
        self.worker = Worker(
            self.bus, self.log, self.tombstones, NAMES, self.load, lambda: 1, section
        )

    def load(self):
        self.loads += 1
        return self.refresher

    def send(self, *users):
        start, self.sent = self.sent, self.sent + len(users)
        events = [
            Event(f"{user}-{start + n}", "interactions", user, n, "view", "mug", "o", 1.0, None)
            for n, user in enumerate(users)
        ]
        self.bus.publish([event.pack() for event in events])


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_twenty_events_are_one_generation(bench):
    bench.send(*["ann"] * 20)
    assert bench.worker.take_in(0.0) == 20
    assert bench.bus.depth() == 0
    assert bench.worker.refresh() == 1
    assert bench.worker.refresh() == 0
    assert bench.refresher.asked == [["ann"]]
    assert bench.log.num_waiting() == 0


def test_users_are_asked_about_in_batches(bench):
    bench.send(*(f"u{number}" for number in range(6)))
    bench.worker.take_in(0.0)
    assert [bench.worker.refresh() for _ in range(3)] == [4, 2, 0]


def test_models_are_loaded_when_somebody_is_due(bench):
    bench.worker.take_in(0.0)
    bench.worker.refresh()
    assert bench.loads == 0
    bench.send("ann")
    bench.worker.take_in(0.0)
    bench.worker.refresh()
    assert bench.loads == 1


@pytest.mark.parametrize("error", [EngineError("away"), UnavailableError("away")])
def test_users_wait_on_when_store_or_engine_are_away(bench, error):
    bench.send("ann")
    bench.worker.take_in(0.0)
    bench.refresher.fail_with = error
    with pytest.raises(type(error)):
        bench.worker.refresh()
    assert bench.log.num_waiting() == 1
    assert bench.worker.refresh() == 0  # not at once again
    assert bench.log.totals()["refreshes_failed"] == 1


def test_users_without_an_answer_or_without_tokens_are_put_back(bench):
    bench.send("ann", "bob", "cid")
    bench.worker.take_in(0.0)
    bench.refresher.failed, bench.refresher.left = ["ann"], ["bob"]
    bench.worker.refresh()
    assert bench.log.num_waiting() == 2


def test_a_message_that_is_no_event_stops_nobody(bench):
    bench.bus.publish([b"\xc1 nothing"])
    bench.send("ann")
    bench.worker.take_in(0.0)
    assert bench.log.num_waiting() == 1
    assert bench.bus.depth() == 0
    assert bench.log.totals()["events_unreadable"] == 1


def test_events_of_erased_users_go_no_further(bench):
    bench.tombstones.add(NAMES.of("ann"), 0.0)
    bench.send("ann", "bob")
    bench.worker.take_in(0.0)
    assert bench.log.past(["ann"]).positions == {}
    bench.worker.refresh()
    assert bench.refresher.asked == [["bob"]]


def test_lenders_are_read_again_when_somebody_was_erased(bench):
    bench.send("ann")
    bench.worker.take_in(0.0)
    bench.worker.refresh()
    bench.tombstones.add(NAMES.of("bob"), 0.0)
    bench.send("ann")
    bench.worker.take_in(0.0)
    bench.worker.refresh()
    assert bench.refresher.reloads == 1


def test_a_user_whose_events_left_the_log_is_refreshed_once(bench):
    bench.send("ann")
    bench.worker.take_in(0.0)
    bench.log.drop([1])  # a newer run knows it
    assert bench.worker.refresh() == 1
    assert bench.log.num_waiting() == 0
    assert bench.worker.refresh() == 0


def test_drift_is_told_when_there_is_something_to_tell(bench):
    for drift in (None, 0.4):
        bench.send("ann")
        bench.worker.take_in(0.0)
        bench.refresher.drift = drift
        bench.worker.refresh()
        assert bench.log.totals().get("codes_psi") == drift


def test_a_worker_stops_when_it_is_told(bench):
    stop = threading.Event()
    bench.send("ann")
    thread = threading.Thread(target=bench.worker.run, args=(stop,))
    thread.start()
    for _ in range(100):
        if bench.refresher.asked:
            break
        stop.wait(0.05)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert bench.refresher.asked == [["ann"]]
