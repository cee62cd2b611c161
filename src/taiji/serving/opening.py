"""Opens store and queue as a recipe says."""

from pathlib import Path

from taiji.config.serving import ServeSection
from taiji.serving.bus.protocol import EventBus
from taiji.serving.bus.redis import RedisBus
from taiji.serving.bus.sqlite import SqliteBus
from taiji.serving.redis_server import RedisServer, redis_url
from taiji.serving.store.protocol import OnlineStore
from taiji.serving.store.redis import RedisStore
from taiji.serving.store.sqlite import SqliteStore


def open_store(section: ServeSection, state: Path) -> OnlineStore:
    """The online store.

    Raises:
        ConfigError: The address of Redis is not in the environment.
    """
    match section.backend:
        case "sqlite":
            return SqliteStore(state / "features.sqlite")
        case "redis":
            return RedisStore(_server(section))


def open_bus(section: ServeSection, state: Path) -> EventBus:
    """The queue of events.

    Raises:
        ConfigError: The address of Redis is not in the environment.
    """
    lease = section.refresh.lease_seconds
    match section.backend:
        case "sqlite":
            return SqliteBus(state / "queue.sqlite", lease)
        case "redis":
            return RedisBus(_server(section), lease)


def _server(section: ServeSection) -> RedisServer:
    return RedisServer(redis_url(section.redis_url_env), section.limits.store_timeout_seconds)
