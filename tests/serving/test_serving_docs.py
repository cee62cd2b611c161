"""The commands of docs/serving.md do what it says, in their order."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import redis

pytestmark = pytest.mark.service

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"


def commands():
    block = re.search(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return block[1].strip().splitlines()


def test_from_a_run_to_a_service_with_redis_in_at_most_ten_commands(served, tmp_path):
    lines = commands()
    assert len(lines) < 10
    folder = tmp_path / "laptop"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "taiji").write_text(f'#!/bin/sh\nexec {sys.executable} -m taiji.cli "$@"\n')
    (folder / "bin" / "taiji").chmod(0o755)
    subprocess.run(["cp", "-r", served.root.parent, folder / "runs"], check=True)
    (folder / "runs" / "tiny").rename(folder / "runs" / "smoke")
    user = served.events[-1]["customer"]
    script = "\n".join(["set -e", *lines, "echo"])
    script = script.replace("8100", str(free_port())).replace("6399", str(free_port()))
    script = script.replace('"1", "nobody"', f'"{user}", "nobody"')
    env = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    try:
        answer = read_features(process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        shutdown(script)
    known, nobody = answer["users"]
    assert (known["user_id"], known["status"], nobody["status"]) == (user, "fresh", "missing")


def read_features(process, seconds=300):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        line = process.stdout.readline()
        if '"users"' in line:
            return json.loads(line[line.index('{"version"') :])
    raise TimeoutError("no features came")


def shutdown(script):
    port = re.search(r"redis-server --port (\d+)", script)[1]
    with suppress(redis.exceptions.RedisError):
        redis.Redis(port=int(port)).shutdown(nosave=True)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_the_page_begins_with_the_one_command_for_a_laptop():
    first = re.search(r"\n    (taiji .*)\n", PAGE.read_text(encoding="utf-8"))[1]
    assert first == "taiji serve runs/smoke --with-worker"
