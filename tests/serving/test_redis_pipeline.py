"""Reads that share a connection, and a Redis that keeps silent."""

import asyncio
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis_process import RedisProcess

from taiji.serving.bus.redis import RedisBus
from taiji.serving.redis_server import REST_SECONDS, RedisServer
from taiji.serving.store import AsOf, Record
from taiji.serving.store.redis import RedisStore
from taiji.serving.unavailable import UnavailableError

pytestmark = pytest.mark.service


async def within(server, work):
    try:
        return await work
    finally:
        await server.leave_loop()


def test_each_question_gets_its_own_answer_and_an_error_is_nobody_elses(redis_server):
    async def many():
        asked = [redis_server.ask(b"ECHO", b"%d" % number) for number in range(200)]
        return await asyncio.gather(*asked)

    assert asyncio.run(within(redis_server, many())) == [b"%d" % n for n in range(200)]
    assert redis_server.client.info("clients")["connected_clients"] <= 2  # one for all of them

    async def one_is_wrong():
        pipeline = await redis_server._open()
        asked = [pipeline.ask(b"ECHO", b"1"), pipeline.ask(b"NOTHING"), pipeline.ask(b"ECHO", b"2")]
        return await asyncio.gather(*asked, return_exceptions=True)

    first, wrong, last = asyncio.run(within(redis_server, one_is_wrong()))
    assert (first, last) == (b"1", b"2")
    assert "unknown command" in str(wrong)


def test_who_gives_up_does_not_take_the_answer_of_the_next(redis_server):
    async def impatient():
        pipeline = await redis_server._open()
        gone = asyncio.create_task(pipeline.ask(b"BLPOP", b"nothing", b"0.3"))
        await asyncio.sleep(0.05)
        gone.cancel()
        return await pipeline.ask(b"ECHO", b"mine")

    assert asyncio.run(within(redis_server, impatient())) == b"mine"


def test_a_frozen_redis_costs_one_time_out_and_is_used_again_when_it_thaws(tmp_path):
    redis = RedisProcess(tmp_path)
    redis.start()
    server = RedisServer(redis.url, timeout_seconds=0.1)

    async def freeze():
        assert await server.ask(b"ECHO", b"1") == b"1"
        redis.send(signal.SIGSTOP)
        began = time.monotonic()
        refused = await asyncio.gather(*map(server.ask, [b"PING"] * 100), return_exceptions=True)
        assert all(isinstance(error, UnavailableError) for error in refused)
        with pytest.raises(UnavailableError):
            await server.ask(b"PING")  # at once
        assert time.monotonic() - began < 0.3
        redis.send(signal.SIGCONT)
        await asyncio.sleep(REST_SECONDS)
        return await server.ask(b"ECHO", b"2")

    try:
        assert asyncio.run(within(server, freeze())) == b"2"
    finally:
        server.close()
        redis.kill()


def test_of_threads_that_fill_a_frozen_queue_the_first_wait_and_the_others_are_refused(tmp_path):
    redis = RedisProcess(tmp_path)
    redis.start()
    server = RedisServer(redis.url, write_seconds=0.5)
    bus = RedisBus(server, lease_seconds=60)
    bus.publish([b"before"])
    redis.send(signal.SIGSTOP)
    began = time.monotonic()
    with ThreadPoolExecutor(32) as threads:
        asked = [threads.submit(bus.publish, [b"lost"]) for _ in range(200)]
        refused = [one.exception() for one in asked]
    assert all(isinstance(error, UnavailableError) for error in refused)
    assert time.monotonic() - began < 4  # and not 200 / 32 times half a second, twice
    redis.send(signal.SIGCONT)
    bus.publish([b"after"])
    server.close()
    redis.kill()


def test_a_read_is_one_command_and_after_a_switch_two(redis_server):
    store = RedisStore(redis_server)
    for text in (b"old", b"new"):
        version = store.add_version("x")
        store.write(version, [Record(b"a" * 16, AsOf(1, 0), text)], 60)
        if text == b"old":
            store.switch(version)

    async def reads():
        counted, found = [], []
        for number in range(4):
            if number == 2:
                store.switch(version)
            before = mgets(redis_server)
            found += (await store.read([b"a" * 16, b"b" * 16])).blobs
            counted.append(mgets(redis_server) - before)
        return counted, found[::2]

    counted, found = asyncio.run(within(redis_server, reads()))
    assert counted == [2, 1, 2, 1]  # the first of a process asks which version is in force
    assert found == [b"old", b"old", b"new", b"new"]


def mgets(server):
    return server.client.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]
