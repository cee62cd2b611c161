"""The queue as a Redis stream with a consumer group.

What a dead worker held is claimed by another after a lease. A message that is done is deleted, so
the stream is as long as the work that is left. How safe a message is when `publish` returns is
Redis's own setting: `appendfsync always` loses none.
"""

import os
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import Any, cast

import redis

from taiji.serving.bus.protocol import Delivery
from taiji.serving.redis_server import RedisServer

_FIELD = b"m"

# XDEL only marks an entry in its node: the bytes stay until all of the node are gone. So the stream
# is written anew, with the same ids, and everything in it is handed out again.
_REBUILD = """
local gone = {}
for _, id in ipairs(ARGV) do gone[id] = true end
local entries = redis.call('XRANGE', KEYS[1], '-', '+')
redis.call('DEL', KEYS[1])
for _, entry in ipairs(entries) do
    if not gone[entry[1]] then redis.call('XADD', KEYS[1], entry[1], unpack(entry[2])) end
end
return 0
"""


class RedisBus:
    """See `EventBus`.

    Args:
        server: Where it is.
        lease_seconds: After this a message that nobody has acknowledged is handed out again.
        stream: Its key.
    """

    def __init__(
        self, server: RedisServer, lease_seconds: float, stream: str = "taiji:events"
    ) -> None:
        self._server = server
        self._lease_ms = int(lease_seconds * 1000)
        self._stream, self._group = stream, "workers"
        self._rebuild = server.client.register_script(_REBUILD)
        self._me = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"

    def publish(self, messages: Sequence[bytes]) -> None:
        """See `EventBus.publish`."""
        with self._server.available():
            pipe = self._server.client.pipeline(transaction=True)
            for message in messages:
                pipe.xadd(self._stream, {_FIELD: message})
            pipe.execute()

    def take(self, most: int, wait_seconds: float) -> list[Delivery]:
        """See `EventBus.take`."""
        with self._server.available():
            try:
                return self._take(most, wait_seconds)
            except redis.ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                self._make_group()
                return self._take(most, wait_seconds)

    def _take(self, most: int, wait_seconds: float) -> list[Delivery]:
        client = self._server.client
        answer = cast(
            "Any",
            client.xautoclaim(
                self._stream, self._group, self._me, min_idle_time=self._lease_ms, count=most
            ),
        )
        if claimed := _deliveries(answer[1]):
            return claimed
        block = max(1, min(int(wait_seconds * 1000), 1000))  # less than the time-out
        streams = cast(
            "Any",
            client.xreadgroup(self._group, self._me, {self._stream: ">"}, count=most, block=block),
        )
        return _deliveries(streams[0][1]) if streams else []

    def acknowledge(self, tokens: Sequence[str]) -> None:
        """See `EventBus.acknowledge`."""
        if not tokens:
            return
        with self._server.available():
            pipe = self._server.client.pipeline(transaction=True)
            pipe.xack(self._stream, self._group, *tokens)
            pipe.xdel(self._stream, *tokens)
            pipe.execute()

    def depth(self) -> int:
        """See `EventBus.depth`."""
        with self._server.available():
            return int(self._server.client.xlen(self._stream))

    def erase(self, is_theirs: Callable[[bytes], bool]) -> int:
        """See `EventBus.erase`; messages that are done leave no byte in Redis either.

        What workers hold is handed out again. The store's `erase` has Redis write its files anew.
        """
        theirs: list[str] = []
        last = "-"
        with self._server.available():
            while page := cast(
                "Any", self._server.client.xrange(self._stream, min=last, count=1000)
            ):
                found = _deliveries(page)
                theirs += [one.token for one in found if is_theirs(one.message)]
                last = f"({page[-1][0].decode()}"
            self._rebuild(keys=[self._stream], args=theirs)
        return len(theirs)

    def close(self) -> None:
        """See `EventBus.close`."""
        self._server.close()

    def _make_group(self) -> None:
        try:
            self._server.client.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # another worker was faster
                raise


def _deliveries(entries: Any) -> list[Delivery]:
    """Entries that still hold their message: one that was deleted comes without fields."""
    return [Delivery(id_.decode(), fields[_FIELD]) for id_, fields in entries if fields]
