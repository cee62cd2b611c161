"""The one command for a laptop: `taiji serve RUN --with-worker`."""

import os
import shutil
import time
from contextlib import suppress

import pytest
from service_process import Server

from taiji.serving.client import Event

pytestmark = pytest.mark.service


def test_one_command_turns_events_into_new_features_and_leaves_no_worker_behind(served, tmp_path):
    root = tmp_path / "runs" / "tiny"
    shutil.copytree(served.root, root)
    newest = served.events[-1]["customer"]
    rows = [row for row in served.events if row["customer"] == newest]
    server = Server(root, "--with-worker")
    try:
        (before,) = server.client.features([newest])
        assert before.status == "fresh"  # as the run has it
        began = time.time()
        assert server.client.send([Event(row) for row in rows[:20]]).taken == 20
        after = wait_for_newer(server, newest, began)
        assert after.codes != (-1,) * len(after.codes)
        (worker,) = server.children
        server.process.kill()  # without a word to the worker
        server.process.wait()
        assert wait_until_gone(worker)
    finally:
        server.close()


def wait_for_newer(server, user, since, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        (found,) = server.client.features([user])
        if time.time() - found.age_seconds > since:
            return found
        time.sleep(0.3)
    raise TimeoutError("no newer features came")


def wait_until_gone(pid, seconds=30):
    deadline = time.monotonic() + seconds
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.1)
        return False
    return True
