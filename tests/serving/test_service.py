"""The whole service under a hard life: real households, real processes, kills at random.

What is served at the end must be what one would compute offline from the whole log.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from parts_at_hand import Kept
from redis_process import RedisProcess

from taiji.serving.client import Event, ServiceClient, ServiceError
from taiji.serving.histories import Histories
from taiji.serving.log import EventLog
from taiji.serving.refresher import Refresher
from taiji.serving.run import open_run
from taiji.stages.construct import construct
from taiji.stages.parts.context import StageContext
from taiji.stages.parts.erased import Tombstones, load_names

pytestmark = pytest.mark.service


class Process:
    """`taiji <command>` of a run; started again when it has been killed."""

    def __init__(self, command, root, settings, env):
        self.words = [sys.executable, "-m", "taiji.cli", command, str(root), *settings]
        self.env = os.environ | env
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.words, env=self.env)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def send_all(client, events, failures, sent):
    """As a producer does: the same events again until they are taken."""
    for start in range(0, len(events), 100):
        batch = [
            Event(row, event_id=f"event {start + n}")
            for n, row in enumerate(events[start : start + 100])
        ]
        while True:
            try:
                taken = client.send(batch)
            except ServiceError as error:
                failures.append(error)
                time.sleep(error.retry_after or 0.2)
                continue
            assert not taken.refused, taken.refused[0]
            break
        sent.append(start)


def wait_until_quiet(client, log, seconds=900):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            figures = client._http.get("/v1/figures").json()["now"]
            if not figures.get("queue_depth", 1) and not figures["users_waiting"]:
                return
        except (httpx.HTTPError, ValueError, KeyError):
            pass  # the server is away
        time.sleep(0.2)
    raise TimeoutError(f"still at work: {log.num_waiting()} users wait")


def offline(served, folder, users):
    """Codes and sequence of each user from the whole log, by the same models, without events."""
    from taiji.serving.blobs import unpack_blob

    (folder / "construct").mkdir(parents=True)
    context = StageContext(served.whole, folder / "construct", {}, lambda *_: None)
    construct(context)
    run = open_run(served.root)
    names = load_names(run.recipe.report.pseudonym_key_env)
    store = Kept()
    empty = EventLog(folder / "empty.sqlite", {})
    refresher = Refresher(run, empty, store, names, Tombstones(folder / "none.sqlite"))
    # The past comes from construct over the whole log; lenders stay those of the version.
    whole = Histories(folder / "construct", run.recipe.data, folder / "scratch", 1.0)
    refresher._histories.tell = whole.tell
    for start in range(0, len(users), 64):
        refresher.refresh(users[start : start + 64], 1)
    blobs = {user: unpack_blob(store.blobs[names.of(user)]) for user in users}
    return {user: (tuple(b.codes), tuple(b.items), b.event_time) for user, b in blobs.items()}


def chaos(processes, redis, sent, log, draw):
    """Kill somebody whenever the work has got a little further, however fast the machine is."""
    server, *workers = processes
    victims = [server, *workers, server] + ([redis] if redis else [server])
    draw.shuffle(victims)
    moments = sorted(draw.sample(range(3, 48), len(victims)))
    for moment, victim in zip(moments, victims, strict=True):
        while len(sent) < moment:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.1))  # in the midst of something
        victim.kill()
        victim.start()
    for goal in (1, 30):  # and while users are refreshed
        while log.totals().get("records_written", 0) < goal and log.num_waiting():
            time.sleep(0.02)
        victim = draw.choice(workers)
        victim.kill()
        victim.start()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["redis", "sqlite"])
def test_after_kills_at_random_everybody_has_the_features_of_the_whole_log(
    served, backend, tmp_path
):
    redis = None
    env = {"PYTHONWARNINGS": "ignore"}
    settings = [f"serve.backend={backend}"]
    if backend == "redis":
        redis = RedisProcess(tmp_path / "redis")
        redis.start()
        env["TAIJI_REDIS_URL"] = redis.url
    state = open_run(served.root).state
    if state.exists():
        state.rename(state.with_name(f"service-before-{backend}"))
    port = free_port()
    processes = [Process("serve", served.root, [*settings, "--port", str(port)], env)]
    processes += [Process("worker", served.root, settings, env) for _ in range(2)]
    failures, sent = [], []
    log = EventLog(state / "log.sqlite", {})
    chaos_of = (processes, redis, sent, log, random.Random(7))
    killer = threading.Thread(target=chaos, args=chaos_of, daemon=True)
    try:
        with ServiceClient(f"http://127.0.0.1:{port}", timeout_seconds=10.0) as client:
            wait_until_ready(client)
            killer.start()
            send_all(client, served.events, failures, sent)
            killer.join()
            wait_until_quiet(client, log)
            users = sorted({row["customer"] for row in served.events})
            answer = client.features(users)
            num_events = sum(log.past([user]).interactions.num_rows for user in users)
            log.close()
    finally:
        for process in processes:
            process.kill()
        if redis is not None:
            redis.kill()
    assert failures, "nobody was killed while events were sent"
    assert num_events == len(served.events) == 5000
    expected = offline(served, tmp_path / "offline", users)
    assert {one.status for one in answer} == {"fresh"}
    got = {one.user_id: (one.codes, one.sequence) for one in answer}
    assert got == {user: told[:2] for user, told in expected.items()}
    assert len({codes for codes, _ in got.values()}) > 5  # they differ, so equality says something


def wait_until_ready(client, seconds=300):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            client.features(["nobody"])
            if client._http.get("/readyz").status_code == 200:
                return
        except ServiceError:
            pass
        time.sleep(0.2)
    raise TimeoutError("the server does not come up")
