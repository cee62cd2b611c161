"""A Redis server as the service talks to it: short time-outs, no pile-up while it is down.

After a failed read, further ones fail at once for a moment instead of waiting in a row; then one
of them tries again. So a server that comes back is used again within that moment. Of threads, one
at a time tries a server that did not answer the last one; the others fail at once.
"""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from taiji.errors import ConfigError
from taiji.serving.redis_pipeline import Pipeline
from taiji.serving.unavailable import UnavailableError

REST_SECONDS = 0.5
WRITE_SECONDS = 10.0


class RedisServer:
    """Clients of one server, for threads and for an event loop.

    Args:
        url: Its address.
        timeout_seconds: How long a read of a loop may take.
        write_seconds: How long a command of a thread may take.
    """

    def __init__(
        self, url: str, timeout_seconds: float = 0.1, write_seconds: float = WRITE_SECONDS
    ) -> None:
        self.client = redis.Redis.from_url(
            url,
            socket_timeout=write_seconds,
            socket_connect_timeout=1.0,
            retry=Retry(NoBackoff(), 1, (RedisConnectionError,)),  # closed while it was idle
            health_check_interval=0,
            protocol=2,
        )
        self._connections = redis.asyncio.ConnectionPool.from_url(
            url,
            socket_timeout=None,  # `ask` has its own, and drops a connection that keeps silent
            socket_connect_timeout=timeout_seconds,
            retry=AsyncRetry(NoBackoff(), 0),
            health_check_interval=0,
            protocol=2,
        )
        self._timeout = timeout_seconds
        self._resting_until = 0.0
        self._pipeline: Pipeline | None = None
        self._opening = asyncio.Lock()
        self._away = False
        self._trying = threading.RLock()

    @contextmanager
    def available(self) -> Iterator[None]:
        """Around commands of a thread.

        Raises:
            UnavailableError: Redis does not answer, or another thread is finding out whether it
                does again.
        """
        away = self._away
        if away and not self._trying.acquire(blocking=False):
            raise UnavailableError("Redis does not answer")
        try:
            yield
            self._away = False
        except (RedisConnectionError, redis.exceptions.TimeoutError) as error:
            self._away = True
            raise UnavailableError(f"Redis does not answer: {error}") from error
        finally:
            if away:
                self._trying.release()

    async def ask(self, *words: bytes) -> Any:
        """One command of an event loop, answered within the time-out.

        Raises:
            UnavailableError: It was not, or was not long ago.
        """
        if time.monotonic() < self._resting_until:
            raise UnavailableError("Redis does not answer")
        try:
            async with asyncio.timeout(self._timeout):
                return await (await self._open()).ask(*words)
        except (RedisError, OSError, TimeoutError) as error:
            self._resting_until = time.monotonic() + REST_SECONDS
            await self.leave_loop()
            raise UnavailableError(f"Redis does not answer: {error}") from error

    async def _open(self) -> Pipeline:
        async with self._opening:
            if self._pipeline is None or not self._pipeline.is_open:
                connection = self._connections.make_connection()  # type: ignore[no-untyped-call]
                await connection.connect()
                self._pipeline = Pipeline(connection)
            return self._pipeline

    async def leave_loop(self) -> None:
        """Let go of what `ask` holds in the running event loop."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            await pipeline.close()

    def rewrite_files(self) -> None:
        """Have Redis write its files anew from what it holds now, and wait for that."""
        client = self.client
        info = client.info("persistence")
        if info.get("aof_enabled"):
            client.bgrewriteaof()
            self._wait_until_idle()
        if client.config_get("save").get("save"):
            client.bgsave()
            self._wait_until_idle()

    def _wait_until_idle(self) -> None:
        while True:
            info = self.client.info("persistence")
            busy = ("rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled")
            if not any(info.get(name) for name in busy):
                return
            time.sleep(0.05)

    def close(self) -> None:
        """Let go of the connections of threads; those of a loop end with it."""
        self.client.close()


def redis_url(variable: str) -> str:
    """The address of the server, which may hold a password, from the environment alone.

    Raises:
        ConfigError: The variable is not set, or holds no address.
    """
    url = os.environ.get(variable, "").strip()
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ConfigError(
            f"serve.redis_url_env: {variable}: holds no address of Redis: set it to something like "
            "redis://127.0.0.1:6379/0"
        )
    return url
