"""Stores and queues of both kinds."""

import pytest
from redis_process import BINARY, RedisProcess
from served_run import build

from taiji.serving.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory):
    if BINARY is None:
        pytest.fail("redis-server is not installed: apt-get install redis-server")
    process = RedisProcess(tmp_path_factory.mktemp("redis"))
    process.start()
    yield process
    process.kill()


@pytest.fixture
def redis_server(redis_process):
    server = RedisServer(redis_process.url, timeout_seconds=5.0)
    server.client.flushall()
    yield server
    server.close()


REFRESH = {"debounce_seconds": 2.0, "max_delay_seconds": 20.0, "lease_seconds": 3.0}
SERVE = {"refresh": REFRESH | {"batch_users": 64}, "limits": {"store_timeout_seconds": 1.0}}


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """A finished run, and 5,000 events that came after it."""
    return build(tmp_path_factory.mktemp("served"), num_events=5000, **SERVE)
