"""One contract for every online store."""

import asyncio
import threading

import pytest

from taiji.errors import ConfigError
from taiji.serving.redis_server import RedisServer
from taiji.serving.store import FOREVER, AsOf, Record
from taiji.serving.store.redis import RedisStore
from taiji.serving.store.sqlite import SqliteStore

ANN, BOB = b"a" * 16, b"b" * 16


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.service)])
def open_store(request, tmp_path):
    """Opens the same store again and again, as several processes would."""
    opened = []

    def open_():
        if request.param == "sqlite":
            store = SqliteStore(tmp_path / "features.sqlite")
        else:
            url = request.getfixturevalue("redis_process").url
            store = RedisStore(RedisServer(url, timeout_seconds=5.0))
        opened.append(store)
        return store

    if request.param == "redis":
        request.getfixturevalue("redis_server")
    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store):
    return open_store()


def record(name, time, text, position=0):
    return Record(name, AsOf(time, position), text.encode())


def read(store, *names):
    return asyncio.run(read_once(store, names))


async def read_once(store, names):
    try:
        return await store.read(names)
    finally:
        await store.leave_loop()


def published(store, *records):
    version = store.add_version("first")
    store.write(version, records, 60)
    store.switch(version)
    return version


def test_before_anything_is_published_nothing_is_found(store):
    assert read(store, ANN, BOB).version is None
    assert list(read(store, ANN, BOB).blobs) == [None, None]


def test_what_was_written_is_read_in_the_order_of_the_question(store):
    version = published(store, record(ANN, 1, "ann"), record(BOB, 1, "bob"))
    found = read(store, BOB, b"c" * 16, ANN, BOB)
    assert found.version == version
    assert list(found.blobs) == [b"bob", None, b"ann", b"bob"]


def test_an_older_record_never_takes_the_place_of_a_newer_one(store):
    version = published(store, record(ANN, 10, "new", position=5))
    later = [record(ANN, 9, "x", 9), record(ANN, 10, "x", 4), record(ANN, 10, "x", 5)]
    assert store.write(version, later, 60) == [False, False, False]
    assert read(store, ANN).blobs == [b"new"]
    assert store.write(version, [record(ANN, 10, "late event", 6)], 60) == [True]
    assert store.write(version, [record(ANN, 11, "next", 0)], 60) == [True]
    assert read(store, ANN).blobs == [b"next"]


def test_a_version_is_seen_only_when_it_is_switched_to_and_goes_back_whole(store):
    first = published(store, record(ANN, 1, "old codes"))
    second = store.add_version("second")
    store.write(second, [record(ANN, 1, "new codes"), record(BOB, 1, "new codes")], 60)
    assert list(read(store, ANN, BOB).blobs) == [b"old codes", None]
    store.switch(second)
    assert list(read(store, ANN, BOB).blobs) == [b"new codes", b"new codes"]
    assert store.versions().current == second
    assert store.versions().described == {first: "first", second: "second"}
    assert store.rollback() == first
    assert list(read(store, ANN, BOB).blobs) == [b"old codes", None]
    assert store.rollback() == second


def test_the_third_version_drops_the_first(store):
    first = published(store, record(ANN, 1, "1"))
    second = published(store, record(ANN, 1, "2"))
    third = published(store, record(ANN, 1, "3"))
    assert set(store.versions().described) == {second, third}
    assert store.rollback() == second
    assert read(store, ANN).blobs == [b"2"]
    assert first not in store.versions().described


def test_switching_again_to_the_version_in_force_keeps_the_one_before(store):
    first = published(store, record(ANN, 1, "1"))
    second = published(store, record(ANN, 1, "2"))
    store.switch(second)
    assert store.versions().previous == first


def test_without_a_version_before_there_is_no_way_back(store):
    published(store, record(ANN, 1, "1"))
    with pytest.raises(ConfigError, match="no version before"):
        store.rollback()


def test_an_erased_user_stays_erased_in_every_version(store):
    first = published(store, record(ANN, 1, "ann"), record(BOB, 1, "bob"))
    second = published(store, record(ANN, 1, "ann"))
    store.erase([ANN, b"d" * 16], b"gone")
    for version in (first, second):
        assert store.write(version, [record(ANN, FOREVER.event_time - 1, "x")], 60) == [False]
    assert list(read(store, ANN, b"d" * 16).blobs) == [b"gone", b"gone"]
    store.rollback()
    assert list(read(store, ANN, BOB).blobs) == [b"gone", b"bob"]


def test_a_record_lives_no_longer_than_it_may_and_a_tombstone_for_ever(store):
    version = store.add_version("short")
    store.write(version, [record(ANN, 5, "ann"), Record(BOB, FOREVER, b"gone")], 1)
    store.switch(version)
    deadline = threading.Event()
    deadline.wait(1.2)
    assert list(read(store, ANN, BOB).blobs) == [None, b"gone"]
    assert store.write(version, [record(ANN, 1, "again")], 60) == [True]


def test_five_hundred_users_are_one_question(store):
    names = [number.to_bytes(16, "big") for number in range(500)]
    published(store, *(record(name, 1, name.hex()) for name in names))
    assert list(read(store, *names).blobs) == [name.hex().encode() for name in names]


def test_of_writers_that_race_the_newest_stays(open_store):
    """500 races: whoever comes last, the newest record is the one that is read."""
    stores = [open_store(), open_store()]
    version = published(stores[0])
    names = [number.to_bytes(16, "big") for number in range(500)]
    start = threading.Barrier(2)

    def write(store, own):
        start.wait()
        for number, name in enumerate(names):
            time = 1 + (own + number) % 2  # each writer is the newer one in half of the races
            store.write(version, [record(name, time, str(time))], 60)

    threads = [threading.Thread(target=write, args=(s, n)) for n, s in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(read(stores[0], *names).blobs) == {b"2"}


def test_a_reader_sees_one_version_or_the_other_while_they_are_switched(open_store):
    writer, reader = open_store(), open_store()
    names = [number.to_bytes(16, "big") for number in range(50)]
    published(writer, *(record(name, 1, "0") for name in names))
    done = threading.Event()

    def publish():
        for number in range(1, 20):
            published(writer, *(record(name, 1, str(number)) for name in names))
        done.set()

    async def look():
        seen = set()
        while not done.is_set():
            seen.add(frozenset((await reader.read(names)).blobs))
            await asyncio.sleep(0)
        await reader.leave_loop()
        return seen

    thread = threading.Thread(target=publish)
    thread.start()
    seen = asyncio.run(look())
    thread.join()
    assert all(len(blobs) == 1 for blobs in seen)
