"""Opens store and queue as a recipe says, and knows where a service has kept them before."""

from pathlib import Path

from taiji.config.serving import ServeSection
from taiji.serving.bus.protocol import EventBus
from taiji.serving.bus.redis import RedisBus
from taiji.serving.bus.sqlite import SqliteBus
from taiji.serving.redis_server import WRITE_SECONDS, RedisServer, redis_url
from taiji.serving.store.protocol import OnlineStore
from taiji.serving.store.redis import RedisStore
from taiji.serving.store.sqlite import SqliteStore

IN_REDIS = "in-redis"
"""A file that says: this service has kept features in Redis."""

_SQLITE_STORE = "features.sqlite"
_PUBLISH_SECONDS = 2.0  # a client waits for it; further ones are refused at once


def open_store(section: ServeSection, state: Path) -> OnlineStore:
    """The online store.

    Raises:
        ConfigError: The address of Redis is not in the environment.
    """
    match section.backend:
        case "sqlite":
            return SqliteStore(state / _SQLITE_STORE)
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
            return RedisBus(_server(section, _PUBLISH_SECONDS), lease)


def note_backend(section: ServeSection, state: Path) -> None:
    """Have `open_others` know that the service has kept data there."""
    if section.backend == "redis":
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        (state / IN_REDIS).touch(mode=0o600)


def open_others(section: ServeSection, state: Path) -> list[tuple[OnlineStore, EventBus]]:
    """Stores and queues that the service has used and that `section` does not name.

    Raises:
        ConfigError: It was Redis, and its address is not in the environment.
    """
    if section.backend == "sqlite" and (state / IN_REDIS).is_file():
        other = section.model_copy(update={"backend": "redis"})
    elif section.backend == "redis" and (state / _SQLITE_STORE).is_file():
        other = section.model_copy(update={"backend": "sqlite"})
    else:
        return []
    return [(open_store(other, state), open_bus(other, state))]


def _server(section: ServeSection, write_seconds: float = WRITE_SECONDS) -> RedisServer:
    url, timeout = redis_url(section.redis_url_env), section.limits.store_timeout_seconds
    return RedisServer(url, timeout, write_seconds)
