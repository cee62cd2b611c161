"""The online store in Redis, where one machine is outgrown.

A read is one MGET of the pointer and all records of the version that was in force at the read
before. Redis takes them at one moment, so a pointer that is still the same vouches for the records;
after a switch the first read is done again. A write is one call of a script, which compares and
sets, record by record. A record is 16 bytes of `AsOf` and the blob behind them.
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, cast

from taiji.errors import ConfigError
from taiji.serving.redis_server import RedisServer
from taiji.serving.store.protocol import FOREVER, AsOf, Found, Record, Versions

_AS_OF = struct.Struct(">qq")

# Numbers of Lua are doubles: exact up to 2^53, which both parts of AsOf keep to.
_WRITE = """
local written = {}
for i = 1, #KEYS do
    local new, ttl = ARGV[2 * i - 1], ARGV[2 * i]
    local old = redis.call('GETRANGE', KEYS[i], 0, 15)
    local newer = #old < 16
    if not newer then
        local old_time, old_place = struct.unpack('>i8i8', old)
        local new_time, new_place = struct.unpack('>i8i8', new)
        newer = new_time > old_time or (new_time == old_time and new_place > old_place)
    end
    written[i] = newer and 1 or 0
    if newer then
        if ttl == '0' then redis.call('SET', KEYS[i], new)
        else redis.call('SET', KEYS[i], new, 'EX', ttl) end
    end
end
return written
"""

_AMEND = """
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 17) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], string.sub(held, 1, 16) .. ARGV[2], 'KEEPTTL')
return 1
"""

_SWITCH = """
local current = redis.call('GET', KEYS[1])
if current == ARGV[1] then return {} end
redis.call('SET', KEYS[1], ARGV[1])
if current then redis.call('SET', KEYS[2], current) end
local dropped = {}
for _, version in ipairs(redis.call('HKEYS', KEYS[3])) do
    if version ~= current and tonumber(version) < tonumber(ARGV[1]) then
        redis.call('HDEL', KEYS[3], version)
        dropped[#dropped + 1] = version
    end
end
return dropped
"""

_ROLLBACK = """
local current, previous = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
if not previous then return false end
redis.call('SET', KEYS[1], previous)
redis.call('SET', KEYS[2], current)
return previous
"""


class RedisStore:
    """See `OnlineStore`.

    Args:
        server: Where it is.
        prefix: Of all keys.
    """

    def __init__(self, server: RedisServer, prefix: str = "taiji:features:") -> None:
        self._server = server
        self._prefix = prefix
        self._current, self._previous = f"{prefix}current", f"{prefix}previous"
        self._described, self._last = f"{prefix}versions", f"{prefix}last-version"
        self._pointer = self._current.encode()
        self._in_force: bytes | None = None  # at the last read
        register = server.client.register_script
        self._write, self._amend = register(_WRITE), register(_AMEND)
        self._switch, self._rollback = register(_SWITCH), register(_ROLLBACK)

    async def read(self, names: Sequence[bytes]) -> Found:
        """See `OnlineStore.read`."""
        while True:
            read, keys = self._in_force, [self._pointer]
            if read is not None:
                place = b"%s%s:" % (self._prefix.encode(), read)
                keys += [place + name for name in names]
            pointer, *values = await self._server.ask(b"MGET", *keys)
            if pointer is None:
                return Found(None, [None] * len(names))
            if pointer == read:
                return Found(int(pointer), [v if v is None else v[16:] for v in values])
            self._in_force = pointer

    def write(self, version: int, records: Sequence[Record], ttl_seconds: int) -> list[bool]:
        """See `OnlineStore.write`."""
        if not records:
            return []
        keys = [self._key(version, record.name) for record in records]
        args: list[bytes | int] = []
        for record in records:
            lasting = record.as_of >= FOREVER
            args += [_AS_OF.pack(*record.as_of) + record.blob, 0 if lasting else ttl_seconds]
        with self._server.available():
            written = cast("list[int]", self._write(keys=keys, args=args))
        return [bool(flag) for flag in written]

    def add_version(self, description: str) -> int:
        """See `OnlineStore.add_version`."""
        with self._server.available():
            version = int(self._server.client.incr(self._last))
            self._server.client.hset(self._described, str(version), description)
        return version

    def describe(self, version: int, description: str) -> None:
        """See `OnlineStore.describe`."""
        with self._server.available():
            self._server.client.hset(self._described, str(version), description)

    def versions(self) -> Versions:
        """See `OnlineStore.versions`."""
        with self._server.available():
            pipe = self._server.client.pipeline()
            pipe.mget(self._current, self._previous)
            pipe.hgetall(self._described)
            (current, previous), described = cast("Any", pipe.execute())
        return Versions(
            None if current is None else int(current),
            None if previous is None else int(previous),
            {int(version): text.decode() for version, text in described.items()},
        )

    def switch(self, version: int) -> None:
        """See `OnlineStore.switch`."""
        keys = [self._current, self._previous, self._described]
        with self._server.available():
            dropped = cast("list[bytes]", self._switch(keys=keys, args=[version]))
            for old in dropped:
                self._drop(int(old))

    def rollback(self) -> int:
        """See `OnlineStore.rollback`."""
        with self._server.available():
            previous = cast("Any", self._rollback(keys=[self._current, self._previous]))
        if previous is None:
            raise ConfigError("rollback: there is no version before this one")
        return int(previous)

    def erase(self, names: Sequence[bytes], blob: bytes) -> None:
        """See `OnlineStore.erase`; a file that Redis keeps is written anew without what was."""
        gone = _AS_OF.pack(*FOREVER) + blob
        with self._server.available():
            pipe = self._server.client.pipeline()
            for version in self.versions().described:
                for name in names:
                    pipe.set(self._key(version, name), gone)
            pipe.execute()
            self._server.rewrite_files()

    def scan(self, version: int) -> Iterator[Record]:
        """See `OnlineStore.scan`."""
        prefix = f"{self._prefix}{version}:".encode()
        client = self._server.client
        with self._server.available():
            for keys in _batches(client.scan_iter(match=prefix + b"*", count=1000)):
                for key, value in zip(keys, cast("Any", client.mget(keys)), strict=True):
                    if value is not None:
                        as_of = AsOf(*_AS_OF.unpack(value[:16]))
                        yield Record(key[len(prefix) :], as_of, value[16:])

    def amend(self, version: int, name: bytes, old: bytes, new: bytes) -> bool:
        """See `OnlineStore.amend`."""
        with self._server.available():
            return bool(self._amend(keys=[self._key(version, name)], args=[old, new]))

    async def leave_loop(self) -> None:
        """See `OnlineStore.leave_loop`."""
        await self._server.leave_loop()

    def close(self) -> None:
        """See `OnlineStore.close`."""
        self._server.close()

    def _key(self, version: int, name: bytes) -> bytes:
        return f"{self._prefix}{version}:".encode() + name

    def _drop(self, version: int) -> None:
        """Piece by piece, so that readers do not wait."""
        client = self._server.client
        for keys in _batches(client.scan_iter(match=f"{self._prefix}{version}:*", count=1000)):
            client.unlink(*keys)


def _batches(keys: Iterator[bytes]) -> Iterator[list[bytes]]:
    while batch := list(islice(keys, 1000)):
        yield batch
