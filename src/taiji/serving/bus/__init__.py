"""How events travel from the API to the workers: SQLite on one machine, Redis Streams beyond it."""

from taiji.serving.bus.protocol import Delivery, EventBus

__all__ = ["Delivery", "EventBus"]
