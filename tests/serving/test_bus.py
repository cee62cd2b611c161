"""One contract for every queue."""

import pytest

from taiji.serving.bus.redis import RedisBus
from taiji.serving.bus.sqlite import SqliteBus
from taiji.serving.redis_server import RedisServer


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.service)])
def open_bus(request, tmp_path):
    def open_(lease_seconds=60.0):
        if request.param == "sqlite":
            return SqliteBus(tmp_path / "queue.sqlite", lease_seconds)
        return RedisBus(RedisServer(request.getfixturevalue("redis_process").url), lease_seconds)

    if request.param == "redis":
        request.getfixturevalue("redis_server")
    return open_


def messages(deliveries):
    return [delivery.message for delivery in deliveries]


def test_messages_come_in_order_and_each_to_one_worker(open_bus):
    bus, other = open_bus(), open_bus()
    bus.publish([b"1", b"2", b"3"])
    assert messages(bus.take(2, 0.1)) == [b"1", b"2"]
    assert messages(other.take(2, 0.1)) == [b"3"]
    assert messages(other.take(2, 0.0)) == []


def test_what_is_done_is_forgotten_and_the_rest_is_counted(open_bus):
    bus = open_bus()
    assert bus.depth() == 0
    bus.publish([b"1", b"2", b"3"])
    first, *_ = bus.take(2, 0.1)
    bus.acknowledge([first.token])
    assert bus.depth() == 2


def test_what_a_dead_worker_held_is_handed_out_again(open_bus):
    dead, alive = open_bus(lease_seconds=0.05), open_bus(lease_seconds=0.05)
    dead.publish([b"1", b"2"])
    dead.take(10, 0.1)
    again = []
    for _ in range(20):
        again += alive.take(10, 0.05)
        if again:
            break
    assert messages(again) == [b"1", b"2"]
    alive.acknowledge([delivery.token for delivery in again])
    assert alive.depth() == 0


def test_a_queue_outlives_who_filled_it(open_bus):
    open_bus().publish([b"kept"])
    assert messages(open_bus().take(1, 0.1)) == [b"kept"]


def test_the_messages_of_one_user_can_be_erased(open_bus):
    bus = open_bus()
    bus.publish([b"ann 1", b"bob", b"ann 2"])
    held = bus.take(1, 0.1)
    assert messages(held) == [b"ann 1"]
    assert bus.erase(lambda message: message.startswith(b"ann")) == 2
    again = bus.take(5, 0.1)
    assert messages(again) == [b"bob"]
    assert bus.depth() == 1
    bus.acknowledge([again[0].token])
    assert bus.erase(lambda message: True) == 0
    bus.publish([b"cid"])
    assert messages(bus.take(5, 0.1)) == [b"cid"]


def test_what_others_hold_while_somebody_is_erased_is_handed_out_again_and_can_be_done(open_bus):
    bus = open_bus(lease_seconds=0.05)
    bus.publish([b"ann", b"bob"])
    ann, bob = bus.take(2, 0.1)
    assert bus.erase(lambda message: message == b"ann") == 1
    bus.acknowledge([ann.token, bob.token])  # by a worker that knows nothing of it
    assert bus.depth() == 0
