"""A real server on a real socket: what it withstands."""

import os
import select
import socket
import subprocess
import sys
import time
from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from parts_at_hand import USERS, shop_run
from redis_process import RedisProcess
from service_process import Server

from taiji.serving.admission import Admission
from taiji.serving.api.app import Service, build_app
from taiji.serving.api.keys import FILE, KeyRing, add_key
from taiji.serving.client import Event, ServiceError
from taiji.serving.parts import open_parts
from taiji.serving.publication import publish

pytestmark = pytest.mark.service

ROW = {"customer": "ann", "sku": "mug", "when": "2024-03-01T10:00:00Z", "order": "o9"}
ROW |= {"pieces": "1", "amount": "9.00"}


@pytest.fixture
def document(tmp_path):
    run = shop_run(tmp_path, limits={"requests_per_second": 1e6})
    parts = open_parts(run)
    publish(run, parts.state)
    admission = Admission(run.recipe.data, run.construct / "items.parquet", tmp_path / "scratch")
    keys = KeyRing(run.state / FILE)
    app = build_app(Service(parts, admission, keys, on_loopback=False))
    yield schemathesis.openapi.from_asgi("/openapi.json", app)
    admission.close()
    parts.close()


def test_whatever_the_document_allows_is_answered_as_it_says(document):
    seen = []
    for operation in document.get_all_operations():
        found = operation.ok()
        seen.append(found.label)

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=found.as_strategy())
        def answers(case):
            case.call_and_validate()

        answers()
    assert len(seen) >= 8


def test_fifty_megabytes_without_a_length_are_refused_and_memory_stays_flat(tmp_path):
    server = Server(shop_run(tmp_path).root)
    try:
        before = server.resident_mib
        for _ in range(3):
            assert chunked(server.port, 50) == 413
        assert server.resident_mib < before + 20
        assert server.client.features([USERS[0]])[0].status == "fresh"
    finally:
        server.close()


def chunked(port, megabytes):
    """Send a body piece by piece until an answer comes; return its status."""
    head = "POST /v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head.encode())
        piece = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        for _ in range(megabytes):
            with suppress(ConnectionError):  # it has hung up; the answer may still be there
                connection.sendall(piece)
            if select.select([connection], [], [], 0.05)[0]:
                break
        return int(connection.recv(100).split()[1])


def test_redis_down_means_defaults_in_time_and_recovery_within_two_seconds(tmp_path):
    redis = RedisProcess(tmp_path / "redis")
    redis.start()
    run = shop_run(tmp_path)
    server = Server(run.root, "serve.backend=redis", env={"TAIJI_REDIS_URL": redis.url})
    try:
        assert server.client.features([USERS[0]])[0].status == "fresh"
        redis.kill()
        began = time.monotonic()
        answers = [server.client.features([USERS[0]])[0].status for _ in range(50)]
        assert answers == ["missing"] * 50
        assert time.monotonic() - began < 50 * 0.12 + 2  # not one time-out after the other
        with pytest.raises(ServiceError) as refused:
            server.client.send([Event(ROW)])
        assert refused.value.status == 503
        redis.start()
        deadline = time.monotonic() + 2
        while server.client.features([USERS[0]])[0].status != "fresh":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert server.client.send([Event(ROW)]).taken == 1
    finally:
        errors = server.close()
        redis.kill()
    assert USERS[0].encode() not in errors


def test_no_secret_is_in_a_log_or_a_file(tmp_path):
    run = shop_run(tmp_path)
    key = add_key(run.state / FILE, "all", ("read", "ingest"))
    password = "canary-password"
    words = ["features", "publish", str(run.root), "serve.backend=redis"]
    refused = subprocess.run(
        [sys.executable, "-m", "taiji.cli", *words],
        env=os.environ | {"TAIJI_REDIS_URL": f"redis://:{password}@127.0.0.1:1/0"},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert refused.returncode == 5
    said = refused.stderr + refused.stdout
    assert key.encode() not in said
    assert password.encode() not in said
    for path in run.state.rglob("*"):
        if path.is_file():
            assert key.encode() not in path.read_bytes()


@pytest.mark.slow
def test_ten_minutes_of_requests_grow_resident_memory_by_less_than_a_fifth(tmp_path):
    server = Server(shop_run(tmp_path).root)
    try:
        ends = time.monotonic() + 60
        number = ask_until(server, ends, 0)
        warm = server.resident_mib
        ask_until(server, time.monotonic() + 600, number)
        assert server.resident_mib < 1.2 * warm
    finally:
        server.close()


def ask_until(server, ends, number):
    while time.monotonic() < ends:
        server.client.features([f"x{number}", *USERS])
        server.client.send([Event(ROW | {"order": str(number)})])
        number += 1
    return number
